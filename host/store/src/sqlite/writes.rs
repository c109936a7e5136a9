//! Each [`Write`] as SQL.
//!
//! The one function that writes a noun derives its columns from it, so body and columns cannot disagree. Rows are
//! inserted or updated in place, never replaced, so references stay. Called by the writer, inside a savepoint.

use super::rows::{PortResult, body, corrupt, execute, int, name, noun, permanent, size, text};
use crate::error::port_error;
use chimera_core::approval::Approval;
use chimera_core::campaign::Campaign;
use chimera_core::change::{Outbox, Write};
use chimera_core::clock::Timestamp;
use chimera_core::effect::Effect;
use chimera_core::grant::Grant;
use chimera_core::ids::{AgentId, TaskId};
use chimera_core::journal::JournalEntry;
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

/// Applies the writes: in their order within a table, and tables that are referred to first.
pub(super) async fn apply(db: &mut SqliteConnection, writes: &[Write]) -> PortResult<()> {
    for rank in 0..=LAST_RANK {
        for write in writes.iter().filter(|write| rank_of(write) == rank) {
            apply_one(db, write).await?;
        }
    }
    Ok(())
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

async fn apply_one(db: &mut SqliteConnection, write: &Write) -> PortResult<()> {
    match write {
        Write::PutCampaign(campaign) => put_campaign(db, campaign).await,
        Write::PutStep(step) => put_step(db, step).await,
        Write::PutSpec(spec) => put_spec(db, spec).await,
        Write::PutTask(task) => put_task(db, task).await,
        Write::PutOutbox(row) => put_outbox(db, row).await,
        Write::DeleteOutbox(id) => {
            execute(db, query("DELETE FROM outbox WHERE id = ?").bind(id.to_string())).await.map(drop)
        }
        Write::PutApproval(approval) => put_approval(db, approval).await,
        Write::PutGrant(grant) => put_grant(db, grant).await,
        Write::PutEffect(effect) => put_effect(db, effect).await,
        Write::AppendJournal { task, epoch, entries } => append_journal(db, *task, *epoch, entries).await,
        Write::PutSkill(version) => put_skill(db, version).await,
        Write::SetSkillState(skill, state) => set_skill_state(db, skill, *state).await,
        Write::PutRoute(route) => put_route(db, route).await,
        Write::CountRun(skill, mark) => count_run(db, skill, *mark).await,
        Write::PutAgent(agent) => put_agent(db, agent).await,
        Write::TouchAgent(id, at) => touch_agent(db, *id, *at).await,
        Write::PutToken(token) => put_token(db, token).await,
        Write::PutMemory(item) => put_memory(db, item).await,
        Write::DeleteMemory(agent, id) => {
            let forget = query("DELETE FROM agent_memory WHERE agent_id = ? AND id = ?");
            execute(db, forget.bind(agent.to_string()).bind(id.to_string())).await.map(drop)
        }
        Write::PutScratch(item) => put_scratch(db, item).await,
        Write::DeleteScratch(agent, key) => {
            let forget = query("DELETE FROM ephemeral_memory WHERE agent_id = ? AND key = ?");
            execute(db, forget.bind(agent.to_string()).bind(key.as_str())).await.map(drop)
        }
        Write::AddTrend(item) => add_trend(db, item).await,
    }
}

async fn put_campaign(db: &mut SqliteConnection, campaign: &Campaign) -> PortResult<()> {
    let put = query(upsert!("campaigns", "id", "state", "planner_id", "rev", "created_at", "updated_at", "body"))
        .bind(campaign.id.to_string())
        .bind(campaign.state.as_str())
        .bind(campaign.planner_id.as_str())
        .bind(int(campaign.rev)?)
        .bind(campaign.created_at.as_millis())
        .bind(campaign.updated_at.as_millis())
        .bind(body(campaign)?);
    execute(db, put).await.map(drop)
}

async fn put_step(db: &mut SqliteConnection, step: &Step) -> PortResult<()> {
    let put = query(upsert!("plan_steps", "id", "campaign_id", "lineage_id", "state", "task_id", "position", "body"))
        .bind(step.id.to_string())
        .bind(step.campaign.to_string())
        .bind(step.lineage.to_string())
        .bind(name(&step.state)?)
        .bind(text(step.task))
        .bind(step.position)
        .bind(body(step)?);
    execute(db, put).await.map(drop)
}

async fn put_spec(db: &mut SqliteConnection, spec: &TaskSpec) -> PortResult<()> {
    let put = query(upsert!("task_specs", "id", "skill_name", "skill_version", "skill_digest", "body"))
        .bind(spec.id.to_string())
        .bind(spec.skill.name.as_str())
        .bind(spec.skill.version.to_string())
        .bind(spec.skill.digest.to_string())
        .bind(body(spec)?);
    execute(db, put).await.map(drop)
}

async fn put_task(db: &mut SqliteConnection, task: &Task) -> PortResult<()> {
    // JSON has no NaN: such a task would be written and never be read again.
    let confidences = [task.confidence(), task.verdict.as_ref().map(|verdict| verdict.confidence)];
    if confidences.into_iter().flatten().any(|confidence| !confidence.is_finite()) {
        return Err(permanent(format!("task {}: a confidence is not a finite number", task.id)));
    }
    let lease = task.lease.as_ref();
    let put = query(upsert!(
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
    .bind(task.planner_id.as_str())
    .bind(text(task.worker_id))
    .bind(task.spec_id.to_string())
    .bind(task.state.as_str())
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
    execute(db, put).await.map(drop)
}

async fn put_outbox(db: &mut SqliteConnection, row: &Outbox) -> PortResult<()> {
    // A row that is put again is a new wish: whoever claimed the old one no longer holds it.
    let put =
        query(upsert!("outbox", "id", "topic", "priority", "available_at", "created_at", "claimed_until", "body"))
            .bind(row.id.to_string())
            .bind(row.topic.as_str())
            .bind(row.priority)
            .bind(row.available_at.as_millis())
            .bind(row.created_at.as_millis())
            .bind(None::<i64>)
            .bind(body(row)?);
    execute(db, put).await.map(drop)
}

async fn put_approval(db: &mut SqliteConnection, approval: &Approval) -> PortResult<()> {
    let put =
        query(upsert!("approvals", "id", "campaign_id", "task_id", "kind", "state", "deadline", "created_at", "body"))
            .bind(approval.id.to_string())
            .bind(text(approval.campaign))
            .bind(text(approval.task))
            .bind(name(&approval.kind)?)
            .bind(name(&approval.state)?)
            .bind(approval.deadline.as_millis())
            .bind(approval.created_at.as_millis())
            .bind(body(approval)?);
    execute(db, put).await.map(drop)
}

async fn put_grant(db: &mut SqliteConnection, grant: &Grant) -> PortResult<()> {
    let (slot, call) = (grant.slot(), grant.call());
    let put = query(upsert!(
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
    .bind(grant.skill.as_str())
    .bind(slot.map(|slot| slot.slot.as_str()))
    .bind(slot.map(|slot| slot.server.as_str()))
    .bind(call.map(|call| call.callee.as_str()))
    .bind(call.map(|call| call.version.to_string()))
    .bind(grant.granted_at.as_millis())
    .bind(grant.expires_at.map(Timestamp::as_millis))
    .bind(grant.revoked_at.map(Timestamp::as_millis))
    .bind(body(grant)?);
    execute(db, put).await.map(drop)
}

/// The key of an effect never changes; two effects of one key are refused by the table.
async fn put_effect(db: &mut SqliteConnection, effect: &Effect) -> PortResult<()> {
    let put = query(upsert!(
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
    .bind(effect.key.tool.as_str())
    .bind(effect.key.arguments_hash.to_string())
    .bind(effect.task.to_string())
    .bind(effect.attempt)
    .bind(name(&effect.state)?)
    .bind(effect.created_at.as_millis())
    .bind(effect.updated_at.as_millis())
    .bind(body(effect)?);
    execute(db, put).await.map(drop)
}

/// The same entry again is no error (a caller that never heard of its commit); another one at its place is.
async fn append_journal(
    db: &mut SqliteConnection,
    task: TaskId,
    epoch: u32,
    entries: &[JournalEntry],
) -> PortResult<()> {
    for entry in entries {
        let insert = query(
            "INSERT INTO journal (task_id, epoch, ordinal, call, request, answer) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (task_id, epoch, ordinal) DO NOTHING",
        )
        .bind(task.to_string())
        .bind(epoch)
        .bind(entry.ordinal)
        .bind(entry.call.as_ref())
        .bind(entry.request.to_string())
        .bind(body(&entry.answer)?);
        if execute(&mut *db, insert).await? == 0 && journal_entry(db, task, epoch, entry.ordinal).await? != *entry {
            return Err(permanent(format!(
                "the journal of task {task}, epoch {epoch}, has another entry {} already: nothing was written",
                entry.ordinal
            )));
        }
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
    Ok(JournalEntry { ordinal, call: call.into(), request, answer: noun("journal", &row, answer)? })
}

/// A version is immutable: other bytes under the same name and version are refused.
async fn put_skill(db: &mut SqliteConnection, version: &SkillVersion) -> PortResult<()> {
    let skill = &version.skill;
    let installed_at = version.installed_at.as_millis();
    let put_name = query("INSERT INTO skills (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
        .bind(skill.name.as_str())
        .bind(installed_at);
    execute(&mut *db, put_name).await?;
    let put = query(
        "INSERT INTO skill_versions (name, version, digest, state, installed_at, body) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (name, version) DO UPDATE
         SET state = excluded.state, installed_at = excluded.installed_at, body = excluded.body
         WHERE digest = excluded.digest",
    )
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string())
    .bind(name(&version.state)?)
    .bind(installed_at)
    .bind(body(version)?);
    if execute(db, put).await? == 0 {
        return Err(permanent(format!(
            "{skill} is installed with other bytes: versions are immutable, publish under a new version"
        )));
    }
    Ok(())
}

async fn set_skill_state(db: &mut SqliteConnection, skill: &SkillRef, state: SkillState) -> PortResult<()> {
    let state = name(&state)?;
    let set = query(
        "UPDATE skill_versions SET state = ?, body = json_set(body, '$.state', ?)
         WHERE name = ? AND version = ? AND digest = ?",
    )
    .bind(state.as_str())
    .bind(state.as_str())
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string());
    if execute(db, set).await? == 0 {
        // A task of a version that was never installed here can still fail; that must not keep it from failing.
        tracing::warn!(%skill, state, "a version that is not installed cannot change its state");
    }
    Ok(())
}

async fn put_route(db: &mut SqliteConnection, route: &Route) -> PortResult<()> {
    let put = query(upsert!("skill_routes", "name", "active", "canary", "rev", "updated_at", "body"))
        .bind(route.name.as_str())
        .bind(text(route.active.as_ref()))
        .bind(text(route.canary.as_ref().map(|canary| &canary.version)))
        .bind(int(route.rev)?)
        .bind(route.updated_at.as_millis())
        .bind(body(route)?);
    execute(db, put).await.map(drop)
}

async fn count_run(db: &mut SqliteConnection, skill: &SkillRef, mark: RunMark) -> PortResult<()> {
    let count = query(
        "UPDATE skill_routes SET body = json_set(body,
             '$.canary.runs', json_extract(body, '$.canary.runs') + 1,
             '$.canary.failures', json_extract(body, '$.canary.failures') + ?)
         WHERE name = ? AND canary = ?",
    )
    .bind(u8::from(mark == RunMark::Bad))
    .bind(skill.name.as_str())
    .bind(skill.version.to_string());
    execute(db, count).await.map(drop)
}

/// `agents.credentials` is the hash of the newest token of the agent that is not revoked.
const KEEP_CREDENTIALS: &str = "UPDATE agents SET credentials =
    (SELECT hash FROM api_tokens WHERE agent_id = agents.id AND revoked_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1)
    WHERE id = ?";

async fn put_agent(db: &mut SqliteConnection, agent: &Agent) -> PortResult<()> {
    let put = query(upsert!("agents", "id", "type", "status", "last_seen", "name", "created_at", "body"))
        .bind(agent.id.to_string())
        .bind(name(&agent.role)?)
        .bind(name(&agent.status)?)
        .bind(agent.last_seen.as_millis())
        .bind(agent.name.as_str())
        .bind(agent.created_at.as_millis())
        .bind(body(agent)?);
    execute(&mut *db, put).await?;
    execute(db, query(KEEP_CREDENTIALS).bind(agent.id.to_string())).await.map(drop)
}

/// Never moves the clock of an agent backwards.
async fn touch_agent(db: &mut SqliteConnection, agent: AgentId, at: Timestamp) -> PortResult<()> {
    let touch = query(
        "UPDATE agents SET last_seen = ?, body = json_set(body, '$.last_seen', ?) WHERE id = ? AND last_seen < ?",
    )
    .bind(at.as_millis())
    .bind(at.to_string())
    .bind(agent.to_string())
    .bind(at.as_millis());
    execute(db, touch).await.map(drop)
}

async fn put_token(db: &mut SqliteConnection, token: &ApiToken) -> PortResult<()> {
    let agent = match token.scope {
        TokenScope::Operator => None,
        TokenScope::Agent(agent) => Some(agent.to_string()),
    };
    let put = query(upsert!("api_tokens", "id", "hash", "agent_id", "created_at", "revoked_at", "body"))
        .bind(token.id.to_string())
        .bind(token.hash.to_string())
        .bind(agent.clone())
        .bind(token.created_at.as_millis())
        .bind(token.revoked_at.map(Timestamp::as_millis))
        .bind(body(token)?);
    execute(&mut *db, put).await?;
    match agent {
        Some(agent) => execute(db, query(KEEP_CREDENTIALS).bind(agent)).await.map(drop),
        None => Ok(()),
    }
}

async fn put_memory(db: &mut SqliteConnection, item: &MemoryItem) -> PortResult<()> {
    let put = query(upsert!("agent_memory", "id", "agent_id", "created_at", "bytes", "body"))
        .bind(item.id.to_string())
        .bind(item.agent.to_string())
        .bind(item.created_at.as_millis())
        .bind(size(item.size())?)
        .bind(body(item)?);
    execute(&mut *db, put).await?;
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

async fn put_scratch(db: &mut SqliteConnection, item: &ScratchItem) -> PortResult<()> {
    let put = query(
        "INSERT INTO ephemeral_memory (agent_id, key, expires_at, bytes, value) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, key) DO UPDATE
         SET expires_at = excluded.expires_at, bytes = excluded.bytes, value = excluded.value",
    )
    .bind(item.agent.to_string())
    .bind(item.key.as_str())
    .bind(item.expires_at.as_millis())
    .bind(size(item.size())?)
    .bind(body(&item.value)?);
    execute(db, put).await.map(drop)
}

/// The same observation replayed has the same id and counts once.
async fn add_trend(db: &mut SqliteConnection, item: &TrendItem) -> PortResult<()> {
    if !TrendItem::is_weight(item.weight) {
        return Err(permanent(format!("the weight of an observation is {}; it must be 0 to 1e9", item.weight)));
    }
    let add = query(
        "INSERT INTO content_trends (id, agent_id, topic, weight, source, observed_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(item.id.to_string())
    .bind(item.agent.to_string())
    .bind(item.topic.as_str())
    .bind(item.weight)
    .bind(item.source.as_str())
    .bind(item.observed_at.as_millis());
    let added = execute(&mut *db, add).await?;
    if added == 0 || kept(db, item.agent, "trends").await?.0 <= size(TrendItem::MAX_ITEMS)? {
        return Ok(());
    }
    let forget = query(
        "DELETE FROM content_trends WHERE id IN
             (SELECT id FROM content_trends WHERE agent_id = ?1 AND id <> ?2 ORDER BY observed_at, id LIMIT 1)",
    );
    execute(db, forget.bind(item.agent.to_string()).bind(item.id.to_string())).await.map(drop)
}
