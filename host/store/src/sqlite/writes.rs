//! Each [`Write`] as statements.
//!
//! The one function that writes a noun derives its columns from it, so body and columns cannot disagree. Rows are
//! inserted or updated in place, never replaced, so references stay. Called by the writer, inside its transaction.

use super::prepared::Row;
use super::statement::{Bound, Session, digest, id, id_of, statement};
use crate::rows::{PortResult, corrupt, int, name, permanent, size, text};
use chimera_core::approval::Approval;
use chimera_core::campaign::Campaign;
use chimera_core::change::{Outbox, Write};
use chimera_core::clock::Timestamp;
use chimera_core::effect::Effect;
use chimera_core::grant::Grant;
use chimera_core::ids::{AgentId, TaskId};
use chimera_core::journal::{AnswerText, JournalEntry};
use chimera_core::plan::Step;
use chimera_core::records::{Agent, ApiToken, MemoryItem, ScratchItem, TokenScope, TrendItem};
use chimera_core::route::{Route, RunMark};
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_core::task::{Task, TaskSpec};

/// `INSERT … ON CONFLICT (key) DO UPDATE` of every column but the key.
macro_rules! upsert {
    (@mark $column:literal) => { ", ?" };
    // The same, with columns that never change once they are written: their indexes need not be touched then.
    ($table:literal, $key:literal, [$($fixed:literal),*], $first:literal $(, $column:literal)* $(,)?) => {
        concat!(
            "INSERT INTO ", $table, " (", $key $(, ", ", $fixed)*, ", ", $first $(, ", ", $column)*, ") VALUES (?, ?"
            $(, upsert!(@mark $fixed))* $(, upsert!(@mark $column))*, ") ON CONFLICT (", $key, ") DO UPDATE SET ",
            $first, " = excluded.", $first $(, ", ", $column, " = excluded.", $column)*
        )
    };
    ($table:literal, $key:literal, $first:literal $(, $column:literal)* $(,)?) => {
        concat!(
            "INSERT INTO ", $table, " (", $key, ", ", $first $(, ", ", $column)*, ") VALUES (?, ?"
            $(, upsert!(@mark $column))*, ") ON CONFLICT (", $key, ") DO UPDATE SET ",
            $first, " = excluded.", $first $(, ", ", $column, " = excluded.", $column)*
        )
    };
}

/// Whether runs of a version are to be counted; no is only said of what is known not to be on trial.
pub(super) type Counts<'c> = &'c dyn Fn(&SkillRef) -> bool;

/// Writes them: in their order within a table, and tables that are referred to first. An error undoes the whole job.
pub(super) fn apply(db: &Session<'_>, rows: &[Row], counts: Counts<'_>) -> PortResult<()> {
    for rank in 0..=LAST_RANK {
        for row in rows.iter().filter(|row| rank_of(&row.write) == rank) {
            apply_one(db, row, counts)?;
        }
    }
    for (index, Row { write, .. }) in rows.iter().enumerate() {
        // Of an agent's items only the last is looked at: what is too much then is too much of all of them.
        let is_last = |of: fn(&Write) -> Option<AgentId>| {
            let agent = of(write);
            !rows[index + 1..].iter().any(|later| of(&later.write) == agent)
        };
        match write {
            Write::PutMemory(item) if is_last(remembers) => trim_memory(db, item)?,
            Write::AddTrend(item) if is_last(observes) => trim_trends(db, item)?,
            _ => {}
        }
    }
    Ok(())
}

fn remembers(write: &Write) -> Option<AgentId> {
    if let Write::PutMemory(item) = write { Some(item.agent) } else { None }
}

fn observes(write: &Write) -> Option<AgentId> {
    if let Write::AddTrend(item) = write { Some(item.agent) } else { None }
}

const LAST_RANK: u8 = 3;

/// A table comes after those it refers to.
fn rank_of(write: &Write) -> u8 {
    match write {
        Write::PutCampaign(_) | Write::PutSpec(_) | Write::PutAgent(_) | Write::TouchAgent(..) => 0,
        Write::PutStep(_) => 1,
        Write::PutTask(_) => 2,
        _ => LAST_RANK,
    }
}

fn apply_one(db: &Session<'_>, row: &Row, counts: Counts<'_>) -> PortResult<()> {
    match &row.write {
        Write::PutCampaign(campaign) => put_campaign(db, campaign, row.body()),
        Write::PutStep(step) => put_step(db, step, row.body()),
        Write::PutSpec(spec) => put_spec(db, spec, row.body()),
        Write::PutTask(task) => put_task(db, task, row.body()),
        Write::PutOutbox(wish) => put_outbox(db, wish, row.body()),
        Write::DeleteOutbox(id) => {
            statement(db, "DELETE FROM outbox WHERE id = ?")?.bind(id.to_string()).run().map(drop)
        }
        Write::PutApproval(approval) => put_approval(db, approval, row.body()),
        Write::PutGrant(grant) => put_grant(db, grant, row.body()),
        Write::PutEffect(effect) => put_effect(db, effect, row.body()),
        Write::AppendJournal { task, epoch, entries } => {
            put_entries(db, *task, *epoch, &entries.iter().zip(row.requests()).collect::<Vec<_>>())
        }
        Write::PutSkill(version) => put_skill(db, version, row.body()),
        Write::SetSkillState(skill, state) => set_skill_state(db, skill, *state),
        Write::PutRoute(route) => put_route(db, route, row.body()),
        Write::CountRun(skill, mark) if counts(skill) => count_run(db, skill, *mark),
        Write::CountRun(..) => Ok(()),
        Write::PutAgent(agent) => put_agent(db, agent, row.body()),
        Write::TouchAgent(id, at) => touch_agent(db, *id, *at),
        Write::PutToken(token) => put_token(db, token, row.body()),
        Write::PutMemory(item) => put_memory(db, item, row.body()),
        Write::DeleteMemory(agent, id) => {
            let forget = statement(db, "DELETE FROM agent_memory WHERE agent_id = ? AND id = ?")?;
            forget.bind(agent.to_string()).bind(id.to_string()).run().map(drop)
        }
        Write::PutScratch(item) => put_scratch(db, item, row.body()),
        Write::DeleteScratch(agent, key) => {
            let forget = statement(db, "DELETE FROM ephemeral_memory WHERE agent_id = ? AND key = ?")?;
            forget.bind(agent.to_string()).bind(key.as_str()).run().map(drop)
        }
        Write::AddTrend(item) => add_trend(db, item),
    }
}

fn put_campaign(db: &Session<'_>, campaign: &Campaign, body: &str) -> PortResult<()> {
    statement(db, upsert!("campaigns", "id", "state", "planner_id", "rev", "created_at", "updated_at", "body"))?
        .bind(campaign.id.to_string())
        .bind(campaign.state.as_str())
        .bind(campaign.planner_id.as_str())
        .bind(int(campaign.rev)?)
        .bind(campaign.created_at.as_millis())
        .bind(campaign.updated_at.as_millis())
        .bind(body)
        .run()
        .map(drop)
}

fn put_step(db: &Session<'_>, step: &Step, body: &str) -> PortResult<()> {
    statement(db, upsert!("plan_steps", "id", "campaign_id", "lineage_id", "state", "task_id", "position", "body"))?
        .bind(step.id.to_string())
        .bind(step.campaign.to_string())
        .bind(step.lineage.to_string())
        .bind(name(&step.state)?)
        .bind(text(step.task))
        .bind(step.position)
        .bind(body)
        .run()
        .map(drop)
}

fn put_spec(db: &Session<'_>, spec: &TaskSpec, body: &str) -> PortResult<()> {
    statement(db, upsert!("task_specs", "id", "skill_name", "skill_version", "skill_digest", "body"))?
        .bind(id(spec.id.as_uuid()))
        .bind(spec.skill.name.as_str())
        .bind(spec.skill.version.to_string())
        .bind(digest(&spec.skill.digest))
        .bind(body)
        .run()
        .map(drop)
}

fn put_task(db: &Session<'_>, task: &Task, body: &str) -> PortResult<()> {
    // What was changed before is there; only a new one has to be looked for among the others first.
    if task.rev > 0 && update_task(db, task, body)? {
        return Ok(());
    }
    let put = statement(
        db,
        upsert!(
            "tasks",
            "id",
            ["spec_id", "created_at", "campaign_id", "step_id"],
            "planner_id",
            "worker_id",
            "status",
            "confidence",
            "updated_at",
            "lineage_id",
            "priority",
            "attempt",
            "epoch",
            "lease_id",
            "lease_until",
            "run_after",
            "rev",
            "body"
        ),
    )?
    .bind(id(task.id.as_uuid()))
    .bind(id(task.spec_id.as_uuid()))
    .bind(task.created_at.as_millis())
    .bind(id_of(task.campaign.map(|it| it.as_uuid())))
    .bind(id_of(task.step.map(|it| it.as_uuid())));
    changing_columns(put, task, body)?.run().map(drop)
}

/// Changes a task's row; whether there was one.
fn update_task(db: &Session<'_>, task: &Task, body: &str) -> PortResult<bool> {
    let update = statement(
        db,
        "UPDATE tasks SET planner_id = ?, worker_id = ?, status = ?, confidence = ?, updated_at = ?, lineage_id = ?,
             priority = ?, attempt = ?, epoch = ?, lease_id = ?, lease_until = ?, run_after = ?, rev = ?, body = ?
         WHERE id = ?",
    )?;
    Ok(changing_columns(update, task, body)?.bind(id(task.id.as_uuid())).run()? > 0)
}

/// The columns that a task does not keep for its life, in the order of both statements.
fn changing_columns<'c>(statement: Bound<'c>, task: &Task, body: &str) -> PortResult<Bound<'c>> {
    let lease = task.lease.as_ref();
    Ok(statement
        .bind(task.planner_id.as_str())
        .bind(id_of(task.worker_id.map(|it| it.as_uuid())))
        .bind(task.state.as_str())
        .bind(task.confidence())
        .bind(task.updated_at.as_millis())
        .bind(id(task.lineage.as_uuid()))
        .bind(task.priority)
        .bind(task.attempt)
        .bind(task.epoch)
        .bind(id_of(lease.map(|lease| lease.id.as_uuid())))
        .bind(lease.map(|lease| lease.until.as_millis()))
        .bind(task.run_after.map(Timestamp::as_millis))
        .bind(int(task.rev)?)
        .bind(body))
}

fn put_outbox(db: &Session<'_>, row: &Outbox, body: &str) -> PortResult<()> {
    // A row that is put again is a new wish: whoever claimed the old one no longer holds it.
    statement(db, upsert!("outbox", "id", "topic", "priority", "available_at", "created_at", "claimed_until", "body"))?
        .bind(row.id.to_string())
        .bind(row.topic.as_str())
        .bind(row.priority)
        .bind(row.available_at.as_millis())
        .bind(row.created_at.as_millis())
        .bind(None::<i64>)
        .bind(body)
        .run()
        .map(drop)
}

fn put_approval(db: &Session<'_>, approval: &Approval, body: &str) -> PortResult<()> {
    statement(
        db,
        upsert!("approvals", "id", "campaign_id", "task_id", "kind", "state", "deadline", "created_at", "body"),
    )?
    .bind(approval.id.to_string())
    .bind(text(approval.campaign))
    .bind(text(approval.task))
    .bind(name(&approval.kind)?)
    .bind(name(&approval.state)?)
    .bind(approval.deadline.as_millis())
    .bind(approval.created_at.as_millis())
    .bind(body)
    .run()
    .map(drop)
}

fn put_grant(db: &Session<'_>, grant: &Grant, body: &str) -> PortResult<()> {
    let (slot, call) = (grant.slot(), grant.call());
    statement(
        db,
        upsert!(
            "grants",
            "id",
            "skill",
            "slot",
            "server",
            "callee",
            "version",
            "granted_at",
            "expires_at",
            "revoked_at",
            "body"
        ),
    )?
    .bind(grant.id.to_string())
    .bind(grant.skill.as_str())
    .bind(slot.map(|slot| slot.slot.to_string()))
    .bind(slot.map(|slot| slot.server.to_string()))
    .bind(call.map(|call| call.callee.to_string()))
    .bind(call.map(|call| call.version.to_string()))
    .bind(grant.granted_at.as_millis())
    .bind(grant.expires_at.map(Timestamp::as_millis))
    .bind(grant.revoked_at.map(Timestamp::as_millis))
    .bind(body)
    .run()
    .map(drop)
}

/// The key of an effect never changes; two effects of one key are refused by the table.
fn put_effect(db: &Session<'_>, effect: &Effect, body: &str) -> PortResult<()> {
    statement(
        db,
        upsert!(
            "effects",
            "id",
            "lineage",
            "ordinal",
            "tool",
            "arguments_hash",
            "task_id",
            "attempt",
            "state",
            "created_at",
            "updated_at",
            "body"
        ),
    )?
    .bind(effect.id.to_string())
    .bind(effect.key.lineage.to_string())
    .bind(effect.key.ordinal)
    .bind(effect.key.tool.as_str())
    .bind(effect.key.arguments_hash.to_string())
    .bind(effect.task.to_string())
    .bind(effect.attempt)
    .bind(name(&effect.state)?)
    .bind(effect.created_at.as_millis())
    .bind(effect.updated_at.as_millis())
    .bind(body)
    .run()
    .map(drop)
}

/// The same entry again is no error (a caller that never heard of its commit); another one at its place is.
fn put_entries(db: &Session<'_>, task: TaskId, epoch: u32, entries: &[(&JournalEntry, &str)]) -> PortResult<()> {
    // Most runs leave their start and their end, and nothing between.
    for entries in entries.chunks(2) {
        let mut put = statement(db, if entries.len() == 2 { PUT_TWO } else { PUT_ONE })?;
        for (entry, request) in entries {
            put = put
                .bind(id(task.as_uuid()))
                .bind(epoch)
                .bind(entry.ordinal)
                .bind(entry.call.as_ref())
                .bind(*request)
                .bind(entry.answer.as_str());
        }
        if put.run()? == entries.len() {
            continue;
        }
        for (entry, _) in entries {
            if journal_entry(db, task, epoch, entry.ordinal)?.as_ref() != Some(*entry) {
                return Err(permanent(format!(
                    "the journal of task {task}, epoch {epoch}, has another entry {} already: nothing was written",
                    entry.ordinal
                )));
            }
        }
    }
    Ok(())
}

const PUT_ONE: &str = "INSERT INTO journal (task_id, epoch, ordinal, call, request, answer) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (task_id, epoch, ordinal) DO NOTHING";
const PUT_TWO: &str = "INSERT INTO journal (task_id, epoch, ordinal, call, request, answer)
    VALUES (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?) ON CONFLICT (task_id, epoch, ordinal) DO NOTHING";

fn journal_entry(db: &Session<'_>, task: TaskId, epoch: u32, ordinal: u32) -> PortResult<Option<JournalEntry>> {
    let row: Option<(String, String, String)> =
        statement(db, "SELECT call, request, answer FROM journal WHERE task_id = ? AND epoch = ? AND ordinal = ?")?
            .bind(task.to_string())
            .bind(epoch)
            .bind(ordinal)
            .first(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    row.map(|(call, request, answer)| journal_noun(task, epoch, ordinal, call, &request, &answer)).transpose()
}

/// An entry from its columns.
pub(super) fn journal_noun(
    task: TaskId,
    epoch: u32,
    ordinal: u32,
    call: String,
    request: &str,
    answer: &str,
) -> PortResult<JournalEntry> {
    let row = format!("{task} {epoch} {ordinal}");
    let request = request.parse().map_err(|error| corrupt("journal", &row, error))?;
    let answer = AnswerText::parse(answer).map_err(|error| corrupt("journal", &row, error))?;
    Ok(JournalEntry { ordinal, call: call.into(), request, answer })
}

/// A version is immutable: other bytes under the same name and version are refused.
fn put_skill(db: &Session<'_>, version: &SkillVersion, body: &str) -> PortResult<()> {
    let skill = &version.skill;
    let installed_at = version.installed_at.as_millis();
    statement(db, "INSERT INTO skills (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")?
        .bind(skill.name.as_str())
        .bind(installed_at)
        .run()?;
    let put = statement(
        db,
        "INSERT INTO skill_versions (name, version, digest, state, installed_at, body) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (name, version) DO UPDATE
         SET state = excluded.state, installed_at = excluded.installed_at, body = excluded.body
         WHERE digest = excluded.digest",
    )?
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string())
    .bind(name(&version.state)?)
    .bind(installed_at)
    .bind(body)
    .run()?;
    if put == 0 {
        return Err(permanent(format!(
            "{skill} is installed with other bytes: versions are immutable, publish under a new version"
        )));
    }
    Ok(())
}

fn set_skill_state(db: &Session<'_>, skill: &SkillRef, state: SkillState) -> PortResult<()> {
    let state = name(&state)?;
    let set = statement(
        db,
        "UPDATE skill_versions SET state = ?, body = json_set(body, '$.state', ?)
         WHERE name = ? AND version = ? AND digest = ?",
    )?
    .bind(state.as_str())
    .bind(state.as_str())
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string())
    .run()?;
    if set == 0 {
        // A task of a version that was never installed here can still fail; that must not keep it from failing.
        tracing::warn!(%skill, "a version that is not installed cannot change its state");
    }
    Ok(())
}

fn put_route(db: &Session<'_>, route: &Route, body: &str) -> PortResult<()> {
    statement(db, upsert!("skill_routes", "name", "active", "canary", "rev", "updated_at", "body"))?
        .bind(route.name.as_str())
        .bind(text(route.active.as_ref()))
        .bind(text(route.canary.as_ref().map(|canary| &canary.version)))
        .bind(int(route.rev)?)
        .bind(route.updated_at.as_millis())
        .bind(body)
        .run()
        .map(drop)
}

fn count_run(db: &Session<'_>, skill: &SkillRef, mark: RunMark) -> PortResult<()> {
    statement(
        db,
        "UPDATE skill_routes SET body = json_set(body,
             '$.canary.runs', json_extract(body, '$.canary.runs') + 1,
             '$.canary.failures', json_extract(body, '$.canary.failures') + ?)
         WHERE name = ? AND canary = ?",
    )?
    .bind(u8::from(mark == RunMark::Bad))
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .run()
    .map(drop)
}

/// `agents.credentials` is the hash of the newest token of the agent that is not revoked.
const KEEP_CREDENTIALS: &str = "UPDATE agents SET credentials =
    (SELECT hash FROM api_tokens WHERE agent_id = agents.id AND revoked_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1)
    WHERE id = ?";

fn put_agent(db: &Session<'_>, agent: &Agent, body: &str) -> PortResult<()> {
    statement(db, upsert!("agents", "id", "type", "status", "last_seen", "name", "created_at", "body"))?
        .bind(agent.id.to_string())
        .bind(name(&agent.role)?)
        .bind(name(&agent.status)?)
        .bind(agent.last_seen.as_millis())
        .bind(agent.name.as_str())
        .bind(agent.created_at.as_millis())
        .bind(body)
        .run()?;
    statement(db, KEEP_CREDENTIALS)?.bind(agent.id.to_string()).run().map(drop)
}

/// Never moves the clock of an agent backwards.
fn touch_agent(db: &Session<'_>, agent: AgentId, at: Timestamp) -> PortResult<()> {
    statement(
        db,
        "UPDATE agents SET last_seen = ?, body = json_set(body, '$.last_seen', ?) WHERE id = ? AND last_seen < ?",
    )?
    .bind(at.as_millis())
    .bind(at.to_string())
    .bind(agent.to_string())
    .bind(at.as_millis())
    .run()
    .map(drop)
}

fn put_token(db: &Session<'_>, token: &ApiToken, body: &str) -> PortResult<()> {
    let agent = match token.scope {
        TokenScope::Operator => None,
        TokenScope::Agent(agent) => Some(agent.to_string()),
    };
    statement(db, upsert!("api_tokens", "id", "hash", "agent_id", "created_at", "revoked_at", "body"))?
        .bind(token.id.to_string())
        .bind(token.hash.to_string())
        .bind(agent.clone())
        .bind(token.created_at.as_millis())
        .bind(token.revoked_at.map(Timestamp::as_millis))
        .bind(body)
        .run()?;
    if let Some(agent) = agent {
        statement(db, KEEP_CREDENTIALS)?.bind(agent).run()?;
    }
    Ok(())
}

fn put_memory(db: &Session<'_>, item: &MemoryItem, body: &str) -> PortResult<()> {
    statement(db, upsert!("agent_memory", "id", "agent_id", "created_at", "bytes", "body"))?
        .bind(item.id.to_string())
        .bind(item.agent.to_string())
        .bind(item.created_at.as_millis())
        .bind(size(item.size())?)
        .bind(body)
        .run()
        .map(drop)
}

/// Forgets the oldest of what the agent keeps, the new item aside, until the rest is within its bounds.
fn trim_memory(db: &Session<'_>, item: &MemoryItem) -> PortResult<()> {
    let (most_items, most_bytes) = (size(MemoryItem::MAX_ITEMS)?, size(MemoryItem::MAX_BYTES)?);
    loop {
        let (items, bytes) = kept(db, item.agent, "memory")?;
        if items <= most_items && bytes <= most_bytes {
            return Ok(());
        }
        let forget = statement(
            db,
            "DELETE FROM agent_memory WHERE id IN
                 (SELECT id FROM agent_memory WHERE agent_id = ? AND id <> ? ORDER BY created_at, id LIMIT 1)",
        )?;
        if forget.bind(item.agent.to_string()).bind(item.id.to_string()).run()? == 0 {
            return Ok(());
        }
    }
}

/// How much an agent keeps of something: items and bytes.
fn kept(db: &Session<'_>, agent: AgentId, what: &'static str) -> PortResult<(i64, i64)> {
    let asked = statement(db, "SELECT items, bytes FROM kept WHERE agent_id = ? AND what = ?")?;
    let found = asked.bind(agent.to_string()).bind(what).first(|row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.unwrap_or_default())
}

fn put_scratch(db: &Session<'_>, item: &ScratchItem, body: &str) -> PortResult<()> {
    statement(
        db,
        "INSERT INTO ephemeral_memory (agent_id, key, expires_at, bytes, value) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, key) DO UPDATE
         SET expires_at = excluded.expires_at, bytes = excluded.bytes, value = excluded.value",
    )?
    .bind(item.agent.to_string())
    .bind(item.key.as_str())
    .bind(item.expires_at.as_millis())
    .bind(size(item.size())?)
    .bind(body)
    .run()
    .map(drop)
}

/// The same observation replayed has the same id and counts once.
fn add_trend(db: &Session<'_>, item: &TrendItem) -> PortResult<()> {
    if !TrendItem::is_weight(item.weight) {
        return Err(permanent(format!("the weight of an observation is {}; it must be 0 to 1e9", item.weight)));
    }
    statement(
        db,
        "INSERT INTO content_trends (id, agent_id, topic, weight, source, observed_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
    )?
    .bind(item.id.to_string())
    .bind(item.agent.to_string())
    .bind(item.topic.as_str())
    .bind(item.weight)
    .bind(item.source.as_str())
    .bind(item.observed_at.as_millis())
    .run()
    .map(drop)
}

/// Forgets the oldest observations when there are too many, the new one aside.
fn trim_trends(db: &Session<'_>, item: &TrendItem) -> PortResult<()> {
    let too_many = kept(db, item.agent, "trends")?.0 - size(TrendItem::MAX_ITEMS)?;
    if too_many <= 0 {
        return Ok(());
    }
    statement(
        db,
        "DELETE FROM content_trends WHERE id IN
             (SELECT id FROM content_trends WHERE agent_id = ? AND id <> ? ORDER BY observed_at, id LIMIT ?)",
    )?
    .bind(item.agent.to_string())
    .bind(item.id.to_string())
    .bind(too_many)
    .run()
    .map(drop)
}
