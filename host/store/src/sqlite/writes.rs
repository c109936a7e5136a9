//! Each [`Write`] as statements of a script.
//!
//! The one function that writes a noun derives its columns from it, so body and columns cannot disagree. Rows are
//! inserted or updated in place, never replaced, so references stay. Called by the writer, inside a savepoint.

use super::rows::{PortResult, body, corrupt, execute, int, name, permanent, readable_again, size, text};
use super::script::{Done, Script};
use crate::error::port_error;
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
use sqlx::{SqliteConnection, query, query_as};

/// `INSERT … ON CONFLICT (key) DO UPDATE` of every column but the key.
macro_rules! upsert {
    (@mark $column:literal) => { ", ?" };
    ($table:literal, $key:literal, $first:literal $(, $column:literal)* $(,)?) => {
        concat!(
            "INSERT INTO ", $table, " (", $key, ", ", $first $(, ", ", $column)*, ") VALUES (?, ?"
            $(, upsert!(@mark $column))*, ") ON CONFLICT (", $key, ") DO UPDATE SET ",
            $first, " = excluded.", $first $(, ", ", $column, " = excluded.", $column)*
        )
    };
}

/// The statements of the writes: in their order within a table, and tables that are referred to first. Gives what is to be
/// looked at once they have run.
pub(super) fn add<'w>(script: &mut Script, writes: &'w [Write]) -> PortResult<Vec<Check<'w>>> {
    let mut checks = Vec::new();
    for rank in 0..=LAST_RANK {
        for write in writes.iter().filter(|write| rank_of(write) == rank) {
            add_one(script, write, &mut checks)?;
        }
    }
    Ok(checks)
}

/// What is looked at once the statements have run.
#[derive(Debug)]
pub(super) enum Check<'w> {
    /// The version was stored by the statement of this number, or is there with the same bytes.
    IsInstalled(usize, &'w SkillRef),
    /// Whether there was a version whose state could be set.
    IsKnown(usize, &'w SkillRef),
    /// The entry was stored, or is there already.
    IsEntry(usize, TaskId, u32, &'w JournalEntry),
    /// The agent of this item, its last in the change, may keep more than it is allowed to.
    Memory(&'w MemoryItem),
    /// The same of observations.
    Trend(&'w TrendItem),
}

/// Of an agent's items only the last is looked at: what is too much then is too much of all of them.
fn look_at_last<'w>(checks: &mut Vec<Check<'w>>, check: Check<'w>) {
    let is_same = |other: &Check<'_>| match (&check, other) {
        (Check::Memory(item), Check::Memory(other)) => item.agent == other.agent,
        (Check::Trend(item), Check::Trend(other)) => item.agent == other.agent,
        _ => false,
    };
    match checks.iter().position(is_same) {
        Some(place) => checks[place] = check,
        None => checks.push(check),
    }
}

impl Check<'_> {
    /// Looks, and throws away what is too much. An error undoes the whole job.
    pub(super) async fn settle(&self, db: &mut SqliteConnection, done: &[Done]) -> PortResult<()> {
        let touched = |number: usize| done.get(number).map_or(0, |done| done.touched);
        match *self {
            Self::IsInstalled(number, skill) if touched(number) == 0 => Err(permanent(format!(
                "{skill} is installed with other bytes: versions are immutable, publish under a new version"
            ))),
            Self::IsKnown(number, skill) if touched(number) == 0 => {
                // A task of a version that was never installed here can still fail; that must not keep it from failing.
                tracing::warn!(%skill, "a version that is not installed cannot change its state");
                Ok(())
            }
            Self::IsEntry(number, task, epoch, entry)
                if touched(number) == 0 && journal_entry(db, task, epoch, entry.ordinal).await? != *entry =>
            {
                Err(permanent(format!(
                    "the journal of task {task}, epoch {epoch}, has another entry {} already: nothing was written",
                    entry.ordinal
                )))
            }
            Self::Memory(item) => trim_memory(db, item).await,
            Self::Trend(item) => trim_trends(db, item).await,
            _ => Ok(()),
        }
    }
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

fn add_one<'w>(script: &mut Script, write: &'w Write, checks: &mut Vec<Check<'w>>) -> PortResult<()> {
    match write {
        Write::PutCampaign(campaign) => put_campaign(script, campaign),
        Write::PutStep(step) => put_step(script, step),
        Write::PutSpec(spec) => put_spec(script, spec),
        Write::PutTask(task) => put_task(script, task),
        Write::PutOutbox(row) => put_outbox(script, row),
        Write::DeleteOutbox(id) => {
            script.add("DELETE FROM outbox WHERE id = ?").bind(id.to_string());
            Ok(())
        }
        Write::PutApproval(approval) => put_approval(script, approval),
        Write::PutGrant(grant) => put_grant(script, grant),
        Write::PutEffect(effect) => put_effect(script, effect),
        Write::AppendJournal { task, epoch, entries } => append_journal(script, *task, *epoch, entries, checks),
        Write::PutSkill(version) => put_skill(script, version, checks),
        Write::SetSkillState(skill, state) => set_skill_state(script, skill, *state, checks),
        Write::PutRoute(route) => put_route(script, route),
        Write::CountRun(skill, mark) => count_run(script, skill, *mark),
        Write::PutAgent(agent) => put_agent(script, agent),
        Write::TouchAgent(id, at) => touch_agent(script, *id, *at),
        Write::PutToken(token) => put_token(script, token),
        Write::PutMemory(item) => put_memory(script, item, checks),
        Write::DeleteMemory(agent, id) => {
            let forget = script.add("DELETE FROM agent_memory WHERE agent_id = ? AND id = ?");
            forget.bind(agent.to_string()).bind(id.to_string());
            Ok(())
        }
        Write::PutScratch(item) => put_scratch(script, item),
        Write::DeleteScratch(agent, key) => {
            let forget = script.add("DELETE FROM ephemeral_memory WHERE agent_id = ? AND key = ?");
            forget.bind(agent.to_string()).bind(key.as_str().to_owned());
            Ok(())
        }
        Write::AddTrend(item) => add_trend(script, item, checks),
    }
}

fn put_campaign(script: &mut Script, campaign: &Campaign) -> PortResult<()> {
    script
        .add(upsert!("campaigns", "id", "state", "planner_id", "rev", "created_at", "updated_at", "body"))
        .bind(campaign.id.to_string())
        .bind(campaign.state.as_str().to_owned())
        .bind(campaign.planner_id.as_str().to_owned())
        .bind(int(campaign.rev)?)
        .bind(campaign.created_at.as_millis())
        .bind(campaign.updated_at.as_millis())
        .bind(body(campaign)?);
    Ok(())
}

fn put_step(script: &mut Script, step: &Step) -> PortResult<()> {
    script
        .add(upsert!("plan_steps", "id", "campaign_id", "lineage_id", "state", "task_id", "position", "body"))
        .bind(step.id.to_string())
        .bind(step.campaign.to_string())
        .bind(step.lineage.to_string())
        .bind(name(&step.state)?)
        .bind(text(step.task))
        .bind(step.position)
        .bind(body(step)?);
    Ok(())
}

fn put_spec(script: &mut Script, spec: &TaskSpec) -> PortResult<()> {
    script
        .add(upsert!("task_specs", "id", "skill_name", "skill_version", "skill_digest", "body"))
        .bind(spec.id.to_string())
        .bind(spec.skill.name.as_str().to_owned())
        .bind(spec.skill.version.to_string())
        .bind(spec.skill.digest.to_string())
        .bind(body(spec)?);
    Ok(())
}

fn put_task(script: &mut Script, task: &Task) -> PortResult<()> {
    // JSON has no NaN: such a task would be written and never be read again.
    let confidences = [task.confidence(), task.verdict.as_ref().map(|verdict| verdict.confidence)];
    if confidences.into_iter().flatten().any(|confidence| !confidence.is_finite()) {
        return Err(permanent(format!("task {}: a confidence is not a finite number", task.id)));
    }
    let lease = task.lease.as_ref();
    script
        .add(upsert!(
            "tasks",
            "id",
            "planner_id",
            "worker_id",
            "spec_id",
            "status",
            "confidence",
            "created_at",
            "updated_at",
            "campaign_id",
            "step_id",
            "lineage_id",
            "priority",
            "attempt",
            "epoch",
            "lease_id",
            "lease_until",
            "run_after",
            "rev",
            "body"
        ))
        .bind(task.id.to_string())
        .bind(task.planner_id.as_str().to_owned())
        .bind(text(task.worker_id))
        .bind(task.spec_id.to_string())
        .bind(task.state.as_str().to_owned())
        .bind(task.confidence())
        .bind(task.created_at.as_millis())
        .bind(task.updated_at.as_millis())
        .bind(text(task.campaign))
        .bind(text(task.step))
        .bind(task.lineage.to_string())
        .bind(task.priority)
        .bind(task.attempt)
        .bind(task.epoch)
        .bind(lease.map(|lease| lease.id.to_string()))
        .bind(lease.map(|lease| lease.until.as_millis()))
        .bind(task.run_after.map(Timestamp::as_millis))
        .bind(int(task.rev)?)
        .bind(body(task)?);
    Ok(())
}

fn put_outbox(script: &mut Script, row: &Outbox) -> PortResult<()> {
    // A row that is put again is a new wish: whoever claimed the old one no longer holds it.
    script
        .add(upsert!("outbox", "id", "topic", "priority", "available_at", "created_at", "claimed_until", "body"))
        .bind(row.id.to_string())
        .bind(row.topic.as_str().to_owned())
        .bind(row.priority)
        .bind(row.available_at.as_millis())
        .bind(row.created_at.as_millis())
        .bind(None::<i64>)
        .bind(body(row)?);
    Ok(())
}

fn put_approval(script: &mut Script, approval: &Approval) -> PortResult<()> {
    script
        .add(upsert!("approvals", "id", "campaign_id", "task_id", "kind", "state", "deadline", "created_at", "body"))
        .bind(approval.id.to_string())
        .bind(text(approval.campaign))
        .bind(text(approval.task))
        .bind(name(&approval.kind)?)
        .bind(name(&approval.state)?)
        .bind(approval.deadline.as_millis())
        .bind(approval.created_at.as_millis())
        .bind(body(approval)?);
    Ok(())
}

fn put_grant(script: &mut Script, grant: &Grant) -> PortResult<()> {
    let (slot, call) = (grant.slot(), grant.call());
    script
        .add(upsert!(
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
        ))
        .bind(grant.id.to_string())
        .bind(grant.skill.as_str().to_owned())
        .bind(slot.map(|slot| slot.slot.to_string()))
        .bind(slot.map(|slot| slot.server.to_string()))
        .bind(call.map(|call| call.callee.to_string()))
        .bind(call.map(|call| call.version.to_string()))
        .bind(grant.granted_at.as_millis())
        .bind(grant.expires_at.map(Timestamp::as_millis))
        .bind(grant.revoked_at.map(Timestamp::as_millis))
        .bind(body(grant)?);
    Ok(())
}

/// The key of an effect never changes; two effects of one key are refused by the table.
fn put_effect(script: &mut Script, effect: &Effect) -> PortResult<()> {
    script
        .add(upsert!(
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
        ))
        .bind(effect.id.to_string())
        .bind(effect.key.lineage.to_string())
        .bind(effect.key.ordinal)
        .bind(effect.key.tool.as_str().to_owned())
        .bind(effect.key.arguments_hash.to_string())
        .bind(effect.task.to_string())
        .bind(effect.attempt)
        .bind(name(&effect.state)?)
        .bind(effect.created_at.as_millis())
        .bind(effect.updated_at.as_millis())
        .bind(body(effect)?);
    Ok(())
}

/// The same entry again is no error (a caller that never heard of its commit); another one at its place is.
fn append_journal<'w>(
    script: &mut Script,
    task: TaskId,
    epoch: u32,
    entries: &'w [JournalEntry],
    checks: &mut Vec<Check<'w>>,
) -> PortResult<()> {
    for entry in entries {
        readable_again(entry.answer.as_str())?;
        let insert = script
            .add(
                "INSERT INTO journal (task_id, epoch, ordinal, call, request, answer) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (task_id, epoch, ordinal) DO NOTHING",
            )
            .bind(task.to_string())
            .bind(epoch)
            .bind(entry.ordinal)
            .bind(entry.call.to_string())
            .bind(entry.request.to_string())
            .bind(entry.answer.as_str().to_owned());
        checks.push(Check::IsEntry(insert.number(), task, epoch, entry));
    }
    Ok(())
}

async fn journal_entry(db: &mut SqliteConnection, task: TaskId, epoch: u32, ordinal: u32) -> PortResult<JournalEntry> {
    let (call, request, answer): (String, String, String) =
        query_as("SELECT call, request, answer FROM journal WHERE task_id = ? AND epoch = ? AND ordinal = ?")
            .bind(task.to_string())
            .bind(epoch)
            .bind(ordinal)
            .fetch_one(db)
            .await
            .map_err(port_error)?;
    journal_noun(task, epoch, ordinal, call, &request, &answer)
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
fn put_skill<'w>(script: &mut Script, version: &'w SkillVersion, checks: &mut Vec<Check<'w>>) -> PortResult<()> {
    let skill = &version.skill;
    let installed_at = version.installed_at.as_millis();
    script
        .add("INSERT INTO skills (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
        .bind(skill.name.to_string())
        .bind(installed_at);
    let put = script
        .add(
            "INSERT INTO skill_versions (name, version, digest, state, installed_at, body) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (name, version) DO UPDATE
             SET state = excluded.state, installed_at = excluded.installed_at, body = excluded.body
             WHERE digest = excluded.digest",
        )
        .bind(skill.name.to_string())
        .bind(skill.version.to_string())
        .bind(skill.digest.to_string())
        .bind(name(&version.state)?)
        .bind(installed_at)
        .bind(body(version)?);
    checks.push(Check::IsInstalled(put.number(), skill));
    Ok(())
}

fn set_skill_state<'w>(
    script: &mut Script,
    skill: &'w SkillRef,
    state: SkillState,
    checks: &mut Vec<Check<'w>>,
) -> PortResult<()> {
    let state = name(&state)?;
    let set = script
        .add(
            "UPDATE skill_versions SET state = ?, body = json_set(body, '$.state', ?)
             WHERE name = ? AND version = ? AND digest = ?",
        )
        .bind(state.clone())
        .bind(state)
        .bind(skill.name.to_string())
        .bind(skill.version.to_string())
        .bind(skill.digest.to_string());
    checks.push(Check::IsKnown(set.number(), skill));
    Ok(())
}

fn put_route(script: &mut Script, route: &Route) -> PortResult<()> {
    script
        .add(upsert!("skill_routes", "name", "active", "canary", "rev", "updated_at", "body"))
        .bind(route.name.as_str().to_owned())
        .bind(text(route.active.as_ref()))
        .bind(text(route.canary.as_ref().map(|canary| &canary.version)))
        .bind(int(route.rev)?)
        .bind(route.updated_at.as_millis())
        .bind(body(route)?);
    Ok(())
}

fn count_run(script: &mut Script, skill: &SkillRef, mark: RunMark) -> PortResult<()> {
    script
        .add(
            "UPDATE skill_routes SET body = json_set(body,
             '$.canary.runs', json_extract(body, '$.canary.runs') + 1,
             '$.canary.failures', json_extract(body, '$.canary.failures') + ?)
         WHERE name = ? AND canary = ?",
        )
        .bind(u8::from(mark == RunMark::Bad))
        .bind(skill.name.as_str().to_owned())
        .bind(skill.version.to_string());
    Ok(())
}

/// `agents.credentials` is the hash of the newest token of the agent that is not revoked.
const KEEP_CREDENTIALS: &str = "UPDATE agents SET credentials =
    (SELECT hash FROM api_tokens WHERE agent_id = agents.id AND revoked_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1)
    WHERE id = ?";

fn put_agent(script: &mut Script, agent: &Agent) -> PortResult<()> {
    script
        .add(upsert!("agents", "id", "type", "status", "last_seen", "name", "created_at", "body"))
        .bind(agent.id.to_string())
        .bind(name(&agent.role)?)
        .bind(name(&agent.status)?)
        .bind(agent.last_seen.as_millis())
        .bind(agent.name.as_str().to_owned())
        .bind(agent.created_at.as_millis())
        .bind(body(agent)?);
    script.add(KEEP_CREDENTIALS).bind(agent.id.to_string());
    Ok(())
}

/// Never moves the clock of an agent backwards.
fn touch_agent(script: &mut Script, agent: AgentId, at: Timestamp) -> PortResult<()> {
    script
        .add("UPDATE agents SET last_seen = ?, body = json_set(body, '$.last_seen', ?) WHERE id = ? AND last_seen < ?")
        .bind(at.as_millis())
        .bind(at.to_string())
        .bind(agent.to_string())
        .bind(at.as_millis());
    Ok(())
}

fn put_token(script: &mut Script, token: &ApiToken) -> PortResult<()> {
    let agent = match token.scope {
        TokenScope::Operator => None,
        TokenScope::Agent(agent) => Some(agent.to_string()),
    };
    script
        .add(upsert!("api_tokens", "id", "hash", "agent_id", "created_at", "revoked_at", "body"))
        .bind(token.id.to_string())
        .bind(token.hash.to_string())
        .bind(agent.clone())
        .bind(token.created_at.as_millis())
        .bind(token.revoked_at.map(Timestamp::as_millis))
        .bind(body(token)?);
    if let Some(agent) = agent {
        script.add(KEEP_CREDENTIALS).bind(agent);
    }
    Ok(())
}

fn put_memory<'w>(script: &mut Script, item: &'w MemoryItem, checks: &mut Vec<Check<'w>>) -> PortResult<()> {
    script
        .add(upsert!("agent_memory", "id", "agent_id", "created_at", "bytes", "body"))
        .bind(item.id.to_string())
        .bind(item.agent.to_string())
        .bind(item.created_at.as_millis())
        .bind(size(item.size())?)
        .bind(body(item)?);
    look_at_last(checks, Check::Memory(item));
    Ok(())
}

/// Forgets the oldest of what the agent keeps, the new item aside, until the rest is within its bounds.
async fn trim_memory(db: &mut SqliteConnection, item: &MemoryItem) -> PortResult<()> {
    let (most_items, most_bytes) = (size(MemoryItem::MAX_ITEMS)?, size(MemoryItem::MAX_BYTES)?);
    loop {
        let (items, bytes) = kept(db, item.agent, "memory").await?;
        if items <= most_items && bytes <= most_bytes {
            return Ok(());
        }
        let forget = query(
            "DELETE FROM agent_memory WHERE id IN
                 (SELECT id FROM agent_memory WHERE agent_id = ?1 AND id <> ?2 ORDER BY created_at, id LIMIT 1)",
        );
        if execute(&mut *db, forget.bind(item.agent.to_string()).bind(item.id.to_string())).await? == 0 {
            return Ok(());
        }
    }
}

/// How much an agent keeps of something: items and bytes.
async fn kept(db: &mut SqliteConnection, agent: AgentId, what: &'static str) -> PortResult<(i64, i64)> {
    let row = query_as("SELECT items, bytes FROM kept WHERE agent_id = ? AND what = ?").bind(agent.to_string());
    let row = row.bind(what).fetch_optional(db).await.map_err(port_error)?;
    Ok(row.unwrap_or_default())
}

fn put_scratch(script: &mut Script, item: &ScratchItem) -> PortResult<()> {
    script
        .add(
            "INSERT INTO ephemeral_memory (agent_id, key, expires_at, bytes, value) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, key) DO UPDATE
         SET expires_at = excluded.expires_at, bytes = excluded.bytes, value = excluded.value",
        )
        .bind(item.agent.to_string())
        .bind(item.key.as_str().to_owned())
        .bind(item.expires_at.as_millis())
        .bind(size(item.size())?)
        .bind(body(&item.value)?);
    Ok(())
}

/// The same observation replayed has the same id and counts once.
fn add_trend<'w>(script: &mut Script, item: &'w TrendItem, checks: &mut Vec<Check<'w>>) -> PortResult<()> {
    if !TrendItem::is_weight(item.weight) {
        return Err(permanent(format!("the weight of an observation is {}; it must be 0 to 1e9", item.weight)));
    }
    script
        .add(
            "INSERT INTO content_trends (id, agent_id, topic, weight, source, observed_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(item.id.to_string())
        .bind(item.agent.to_string())
        .bind(item.topic.to_string())
        .bind(item.weight)
        .bind(item.source.to_string())
        .bind(item.observed_at.as_millis());
    look_at_last(checks, Check::Trend(item));
    Ok(())
}

/// Forgets the oldest observations when there are too many, the new one aside.
async fn trim_trends(db: &mut SqliteConnection, item: &TrendItem) -> PortResult<()> {
    let too_many = kept(db, item.agent, "trends").await?.0 - size(TrendItem::MAX_ITEMS)?;
    if too_many <= 0 {
        return Ok(());
    }
    let forget = query(
        "DELETE FROM content_trends WHERE id IN
             (SELECT id FROM content_trends WHERE agent_id = ?1 AND id <> ?2 ORDER BY observed_at, id LIMIT ?3)",
    );
    execute(db, forget.bind(item.agent.to_string()).bind(item.id.to_string()).bind(too_many)).await.map(drop)
}
