//! What the guards of a batch ask about.
//!
//! It is read and locked before anything of the batch is decided, and kept up with what the batch's own changes write: so a
//! later change is held against the earlier ones without another command, and against everybody else's by the locks, which
//! last until the transaction's end. Rows are locked kind by kind and in the order of their keys, by every process alike.
//! It writes nothing. Made by the batch.

use super::fault::Written;
use super::text::kept;
use crate::rows::{PortResult, int, name, size};
use chimera_core::approval::ApprovalState;
use chimera_core::change::{Change, Guard, Write};
use chimera_core::effect::EffectKey;
use chimera_core::ids::{AgentId, ApprovalId, CampaignId, EffectId, LeaseId, OutboxId, TaskId};
use chimera_core::records::ScratchItem;
use chimera_core::skill::SkillName;
use chimera_core::task::TaskState;
use sqlx::{PgConnection, query, query_as, query_scalar};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// What is there of what was asked about.
#[derive(Debug, Default)]
pub(super) struct Known {
    tasks: HashMap<TaskId, KnownTask>,
    /// Those of them that were there before the batch.
    stored_tasks: HashSet<TaskId>,
    campaigns: HashMap<CampaignId, i64>,
    open_approvals: HashSet<ApprovalId>,
    effects: HashMap<EffectId, String>,
    effect_keys: HashSet<EffectKey>,
    outbox: HashSet<OutboxId>,
    journal: HashSet<(TaskId, u32, u32)>,
    versions: HashSet<(SkillName, String)>,
    routes: HashMap<SkillName, i64>,
    /// Items and bytes.
    scratch: HashMap<AgentId, (i64, i64)>,
    scratch_values: HashMap<(AgentId, String), i64>,
}

#[derive(Debug, PartialEq, Eq)]
struct KnownTask {
    rev: i64,
    is_running: bool,
    lease: Option<LeaseId>,
    attempt: i64,
}

/// The keys of everything that is asked about.
#[derive(Debug, Default)]
struct Asked<'c> {
    tasks: BTreeSet<TaskId>,
    campaigns: BTreeSet<CampaignId>,
    approvals: BTreeSet<ApprovalId>,
    effects: BTreeSet<EffectId>,
    effect_keys: HashSet<&'c EffectKey>,
    outbox: BTreeSet<OutboxId>,
    journal: BTreeSet<(TaskId, u32, u32)>,
    /// Skills whose versions or routes are asked about.
    skills: BTreeSet<&'c SkillName>,
    scratch: BTreeSet<AgentId>,
    scratch_keys: BTreeSet<(AgentId, &'c str)>,
}

impl<'c> Asked<'c> {
    fn by(changes: &[&'c Change]) -> Self {
        let mut asked = Self::default();
        for change in changes {
            change.guards.iter().for_each(|guard| asked.guard(guard));
        }
        let has_room_guards = !asked.scratch.is_empty();
        for write in changes.iter().flat_map(|change| &change.writes) {
            match write {
                // Whether it is there decides between inserting and updating.
                Write::PutTask(task) => _ = asked.tasks.insert(task.id),
                Write::PutScratch(item) if has_room_guards => _ = asked.scratch_keys.insert((item.agent, &item.key)),
                Write::DeleteScratch(agent, key) if has_room_guards => _ = asked.scratch_keys.insert((*agent, key)),
                _ => {}
            }
        }
        asked
    }

    fn guard(&mut self, guard: &'c Guard) {
        match guard {
            Guard::TaskAbsent(id) | Guard::TaskRev(id, _) | Guard::LeaseCurrent(id, ..) => _ = self.tasks.insert(*id),
            Guard::CampaignRev(id, _) => _ = self.campaigns.insert(*id),
            Guard::ApprovalOpen(id) => _ = self.approvals.insert(*id),
            Guard::EffectIs(id, _) => _ = self.effects.insert(*id),
            Guard::EffectAbsent(key) => _ = self.effect_keys.insert(key),
            Guard::OutboxPresent(id) => _ = self.outbox.insert(*id),
            Guard::SkillAbsent(skill) => _ = self.skills.insert(&skill.name),
            Guard::RouteRev(name, _) => _ = self.skills.insert(name),
            Guard::JournalAbsent(task, epoch, ordinal) => _ = self.journal.insert((*task, *epoch, *ordinal)),
            Guard::ScratchRoom(agent, key, _) => {
                self.scratch.insert(*agent);
                self.scratch_keys.insert((*agent, key));
            }
        }
    }
}

impl Known {
    /// Reads and locks what these changes ask about.
    pub(super) async fn load(db: &mut PgConnection, changes: &[&Change]) -> Written<Self> {
        let asked = Asked::by(changes);
        let mut known = Self::default();
        known.load_skills(db, &asked).await?;
        known.load_campaigns(db, &asked).await?;
        known.load_tasks(db, &asked).await?;
        known.load_approvals(db, &asked).await?;
        known.load_effects(db, &asked).await?;
        known.load_outbox(db, &asked).await?;
        known.load_journal(db, &asked).await?;
        known.load_scratch(db, &asked).await?;
        Ok(known)
    }

    async fn load_tasks(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.tasks.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = asked.tasks.iter().map(TaskId::as_uuid).collect();
        let rows: Vec<(Uuid, i64, String, Option<Uuid>, i64)> = query_as(
            "SELECT id, rev, status, lease_id, attempt FROM tasks WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        )
        .bind(ids)
        .fetch_all(db)
        .await?;
        self.tasks.extend(rows.into_iter().map(|(id, rev, status, lease, attempt)| {
            let is_running = status == TaskState::Running.as_str();
            let lease = lease.map(LeaseId::from_uuid);
            (TaskId::from_uuid(id), KnownTask { rev, is_running, lease, attempt })
        }));
        self.stored_tasks.extend(self.tasks.keys());
        Ok(())
    }

    async fn load_campaigns(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.campaigns.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = asked.campaigns.iter().map(CampaignId::as_uuid).collect();
        let rows: Vec<(Uuid, i64)> =
            query_as("SELECT id, rev FROM campaigns WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
                .bind(ids)
                .fetch_all(db)
                .await?;
        self.campaigns.extend(rows.into_iter().map(|(id, rev)| (CampaignId::from_uuid(id), rev)));
        Ok(())
    }

    async fn load_approvals(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.approvals.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = asked.approvals.iter().map(ApprovalId::as_uuid).collect();
        let rows: Vec<Uuid> = query_scalar(
            "SELECT id FROM approvals WHERE id = ANY($1) AND state = 'open' ORDER BY id FOR NO KEY UPDATE",
        )
        .bind(ids)
        .fetch_all(db)
        .await?;
        self.open_approvals.extend(rows.into_iter().map(ApprovalId::from_uuid));
        Ok(())
    }

    /// Of a key that is there it is enough to know so: what has the same key and comes from elsewhere meanwhile is refused by
    /// the table, and the change is tried again.
    async fn load_effects(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if !asked.effects.is_empty() {
            let ids: Vec<Uuid> = asked.effects.iter().map(EffectId::as_uuid).collect();
            let rows: Vec<(Uuid, String)> =
                query_as("SELECT id, state FROM effects WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
                    .bind(ids)
                    .fetch_all(&mut *db)
                    .await?;
            self.effects.extend(rows.into_iter().map(|(id, state)| (EffectId::from_uuid(id), state)));
        }
        for key in &asked.effect_keys {
            let found: Option<i32> = query_scalar(
                "SELECT 1 FROM effects WHERE lineage = $1 AND ordinal = $2 AND tool = $3 AND arguments_hash = $4",
            )
            .bind(key.lineage.as_uuid())
            .bind(i64::from(key.ordinal))
            .bind(kept(&key.tool))
            .bind(key.arguments_hash.to_string())
            .fetch_optional(&mut *db)
            .await?;
            if found.is_some() {
                self.effect_keys.insert((*key).clone());
            }
        }
        Ok(())
    }

    async fn load_outbox(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.outbox.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = asked.outbox.iter().map(OutboxId::as_uuid).collect();
        let rows: Vec<Uuid> = query_scalar("SELECT id FROM outbox WHERE id = ANY($1) ORDER BY id FOR UPDATE")
            .bind(ids)
            .fetch_all(db)
            .await?;
        self.outbox.extend(rows.into_iter().map(OutboxId::from_uuid));
        Ok(())
    }

    async fn load_journal(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.journal.is_empty() {
            return Ok(());
        }
        let tasks: Vec<Uuid> = asked.journal.iter().map(|(task, ..)| task.as_uuid()).collect();
        let epochs: Vec<i64> = asked.journal.iter().map(|(_, epoch, _)| i64::from(*epoch)).collect();
        let ordinals: Vec<i64> = asked.journal.iter().map(|(.., ordinal)| i64::from(*ordinal)).collect();
        let rows: Vec<(Uuid, i64, i64)> = query_as(
            "SELECT j.task_id, j.epoch, j.ordinal FROM journal j
             JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS asked (task_id, epoch, ordinal)
                 USING (task_id, epoch, ordinal)",
        )
        .bind(tasks)
        .bind(epochs)
        .bind(ordinals)
        .fetch_all(db)
        .await?;
        self.journal.extend(rows.into_iter().filter_map(|(task, epoch, ordinal)| {
            Some((TaskId::from_uuid(task), u32::try_from(epoch).ok()?, u32::try_from(ordinal).ok()?))
        }));
        Ok(())
    }

    /// What is not there yet cannot be locked as a row, so whoever decides on a skill holds its name.
    async fn load_skills(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.skills.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = asked.skills.iter().map(|name| name.as_str()).collect();
        query("SELECT pg_advisory_xact_lock(hashtextextended(name, 7)) FROM unnest($1::text[]) AS name")
            .bind(&names)
            .execute(&mut *db)
            .await?;
        let versions: Vec<(String, String)> = query_as("SELECT name, version FROM skill_versions WHERE name = ANY($1)")
            .bind(&names)
            .fetch_all(&mut *db)
            .await?;
        let routes: Vec<(String, i64)> =
            query_as("SELECT name, rev FROM skill_routes WHERE name = ANY($1)").bind(&names).fetch_all(db).await?;
        for name in &asked.skills {
            let of = |found: &str| found == name.as_str();
            let installed = versions.iter().filter(|(found, _)| of(found));
            self.versions.extend(installed.map(|(_, version)| ((*name).clone(), version.clone())));
            let rev = routes.iter().find(|(found, _)| of(found)).map_or(0, |(_, rev)| *rev);
            self.routes.insert((*name).clone(), rev);
        }
        Ok(())
    }

    async fn load_scratch(&mut self, db: &mut PgConnection, asked: &Asked<'_>) -> Written<()> {
        if asked.scratch.is_empty() {
            return Ok(());
        }
        let agents: Vec<Uuid> = asked.scratch.iter().map(AgentId::as_uuid).collect();
        let rooms: Vec<(Uuid, i64, i64)> = query_as(
            "SELECT agent_id, items, bytes FROM kept WHERE agent_id = ANY($1) AND what = 'scratch'
             ORDER BY agent_id FOR NO KEY UPDATE",
        )
        .bind(agents)
        .fetch_all(&mut *db)
        .await?;
        self.scratch.extend(rooms.into_iter().map(|(agent, items, bytes)| (AgentId::from_uuid(agent), (items, bytes))));
        for (agent, key) in &asked.scratch_keys {
            let bytes: Option<i64> =
                query_scalar("SELECT bytes FROM ephemeral_memory WHERE agent_id = $1 AND key = $2")
                    .bind(agent.as_uuid())
                    .bind(kept(key))
                    .fetch_optional(&mut *db)
                    .await?;
            if let Some(bytes) = bytes {
                self.scratch_values.insert((*agent, (*key).to_owned()), bytes);
            }
        }
        Ok(())
    }

    /// The first guard of a change that does not hold.
    pub(super) fn first_broken<'g>(&self, guards: &'g [Guard]) -> PortResult<Option<&'g Guard>> {
        for guard in guards {
            if !self.holds(guard)? {
                return Ok(Some(guard));
            }
        }
        Ok(None)
    }

    fn holds(&self, guard: &Guard) -> PortResult<bool> {
        Ok(match guard {
            Guard::TaskAbsent(id) => !self.tasks.contains_key(id),
            Guard::TaskRev(id, rev) => {
                let rev = int(*rev)?;
                self.tasks.get(id).is_some_and(|task| task.rev == rev)
            }
            Guard::CampaignRev(id, rev) => self.campaigns.get(id) == Some(&int(*rev)?),
            Guard::LeaseCurrent(id, lease, attempt) => self.tasks.get(id).is_some_and(|task| {
                task.is_running && task.lease == Some(*lease) && task.attempt == i64::from(*attempt)
            }),
            Guard::ApprovalOpen(id) => self.open_approvals.contains(id),
            Guard::EffectIs(id, state) => {
                let state = name(state)?;
                self.effects.get(id) == Some(&state)
            }
            Guard::EffectAbsent(key) => !self.effect_keys.contains(key),
            Guard::OutboxPresent(id) => self.outbox.contains(id),
            Guard::SkillAbsent(skill) => !self.versions.contains(&(skill.name.clone(), skill.version.to_string())),
            Guard::RouteRev(name, rev) => self.routes.get(name) == Some(&int(*rev)?),
            Guard::JournalAbsent(task, epoch, ordinal) => !self.journal.contains(&(*task, *epoch, *ordinal)),
            Guard::ScratchRoom(agent, key, bytes) => {
                let old = self.scratch_values.get(&(*agent, key.clone()));
                let (items, used) = self.scratch.get(agent).copied().unwrap_or_default();
                items - i64::from(old.is_some()) < size(ScratchItem::MAX_KEYS)?
                    && used - old.copied().unwrap_or(0) + size(*bytes)? <= size(ScratchItem::MAX_BYTES)?
            }
        })
    }

    /// Was the task there before the batch?
    pub(super) fn has_stored(&self, task: TaskId) -> bool {
        self.stored_tasks.contains(&task)
    }

    /// A change of this batch writes this.
    pub(super) fn written(&mut self, write: &Write) -> PortResult<()> {
        match write {
            Write::PutTask(task) => {
                let known = KnownTask {
                    rev: int(task.rev)?,
                    is_running: task.state == TaskState::Running,
                    lease: task.lease.as_ref().map(|lease| lease.id),
                    attempt: i64::from(task.attempt),
                };
                self.tasks.insert(task.id, known);
            }
            Write::PutCampaign(campaign) => _ = self.campaigns.insert(campaign.id, int(campaign.rev)?),
            Write::PutApproval(approval) if approval.state == ApprovalState::Open => {
                self.open_approvals.insert(approval.id);
            }
            Write::PutApproval(approval) => _ = self.open_approvals.remove(&approval.id),
            Write::PutEffect(effect) => {
                self.effects.insert(effect.id, name(&effect.state)?);
                self.effect_keys.insert(effect.key.clone());
            }
            Write::PutOutbox(row) => _ = self.outbox.insert(row.id),
            Write::DeleteOutbox(id) => _ = self.outbox.remove(id),
            Write::AppendJournal { task, epoch, entries } => {
                self.journal.extend(entries.iter().map(|entry| (*task, *epoch, entry.ordinal)));
            }
            Write::PutSkill(version) => {
                self.versions.insert((version.skill.name.clone(), version.skill.version.to_string()));
            }
            Write::PutRoute(route) => _ = self.routes.insert(route.name.clone(), int(route.rev)?),
            Write::PutScratch(item) => {
                let bytes = size(item.size())?;
                let old = self.scratch_values.insert((item.agent, item.key.clone()), bytes);
                let room = self.scratch.entry(item.agent).or_default();
                *room = (room.0 + i64::from(old.is_none()), room.1 + bytes - old.unwrap_or(0));
            }
            Write::DeleteScratch(agent, key) => {
                if let Some(old) = self.scratch_values.remove(&(*agent, key.clone())) {
                    let room = self.scratch.entry(*agent).or_default();
                    *room = (room.0 - 1, room.1 - old);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
