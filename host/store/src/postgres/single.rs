//! Writes that come seldom: each a statement, in the order of the changes.
//!
//! Called by the batch, inside its transaction.

use super::fault::{Fault, Written};
use super::text::kept;
use crate::rows::{body, int, name, noun, permanent, size};
use chimera_core::change::Write;
use chimera_core::clock::Timestamp;
use chimera_core::grant::Grant;
use chimera_core::ids::AgentId;
use chimera_core::records::{Agent, ApiToken, MemoryItem, ScratchItem, TokenScope, TrendItem};
use chimera_core::route::Route;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, query, query_as, query_scalar};

/// Writes one of them. What the batch writes table by table is not among them and is left alone.
pub(super) async fn write(db: &mut PgConnection, write: &Write) -> Written<()> {
    match write {
        Write::PutGrant(grant) => put_grant(db, grant).await,
        Write::PutSkill(version) => put_skill(db, version).await,
        Write::SetSkillState(skill, state) => set_skill_state(db, skill, *state).await,
        Write::PutRoute(route) => put_route(db, route).await,
        Write::PutAgent(agent) => put_agent(db, agent).await,
        Write::TouchAgent(id, at) => touch_agent(db, *id, *at).await,
        Write::PutToken(token) => put_token(db, token).await,
        Write::PutMemory(item) => put_memory(db, item).await,
        Write::DeleteMemory(agent, id) => {
            let forget = query("DELETE FROM agent_memory WHERE agent_id = $1 AND id = $2");
            run(db, forget.bind(agent.as_uuid()).bind(id)).await.map(drop)
        }
        Write::PutScratch(item) => put_scratch(db, item).await,
        Write::DeleteScratch(agent, key) => {
            let forget = query("DELETE FROM ephemeral_memory WHERE agent_id = $1 AND key = $2");
            run(db, forget.bind(agent.as_uuid()).bind(kept(key))).await.map(drop)
        }
        Write::AddTrend(item) => add_trend(db, item).await,
        Write::PutCampaign(_)
        | Write::PutStep(_)
        | Write::PutSpec(_)
        | Write::PutTask(_)
        | Write::PutOutbox(_)
        | Write::DeleteOutbox(_)
        | Write::PutApproval(_)
        | Write::PutEffect(_)
        | Write::AppendJournal { .. }
        | Write::CountRun(..) => Ok(()),
    }
}

/// Forgets what is too much of what these writes added. Of an agent's items only the last is looked at: what is too much then
/// is too much of all of them.
pub(super) async fn trim(db: &mut PgConnection, writes: &[&Write]) -> Written<()> {
    for (index, write) in writes.iter().enumerate() {
        let is_last = |of: fn(&Write) -> Option<AgentId>| {
            let agent = of(write);
            !writes[index + 1..].iter().any(|later| of(later) == agent)
        };
        match write {
            Write::PutMemory(item) if is_last(remembers) => trim_memory(db, item).await?,
            Write::AddTrend(item) if is_last(observes) => trim_trends(db, item).await?,
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

async fn run(db: &mut PgConnection, statement: Query<'_, Postgres, PgArguments>) -> Written<u64> {
    statement.execute(db).await.map(|done| done.rows_affected()).map_err(Fault::from)
}

async fn put_grant(db: &mut PgConnection, grant: &Grant) -> Written<()> {
    let (slot, call) = (grant.slot(), grant.call());
    let put = query(
        "INSERT INTO grants (id, skill, slot, server, callee, version, granted_at, expires_at, revoked_at, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET skill = excluded.skill, slot = excluded.slot, server = excluded.server,
             callee = excluded.callee, version = excluded.version, granted_at = excluded.granted_at,
             expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, body = excluded.body",
    )
    .bind(grant.id.as_uuid())
    .bind(grant.skill.as_str())
    .bind(slot.map(|slot| slot.slot.to_string()))
    .bind(slot.map(|slot| slot.server.to_string()))
    .bind(call.map(|call| call.callee.to_string()))
    .bind(call.map(|call| call.version.to_string()))
    .bind(grant.granted_at.as_millis())
    .bind(grant.expires_at.map(Timestamp::as_millis))
    .bind(grant.revoked_at.map(Timestamp::as_millis))
    .bind(body(grant)?);
    run(db, put).await.map(drop)
}

/// A version is immutable: other bytes under the same name and version are refused.
async fn put_skill(db: &mut PgConnection, version: &SkillVersion) -> Written<()> {
    let skill = &version.skill;
    let installed_at = version.installed_at.as_millis();
    let named = query("INSERT INTO skills (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    run(&mut *db, named.bind(skill.name.as_str()).bind(installed_at)).await?;
    let put = query(
        "INSERT INTO skill_versions AS v (name, version, digest, state, installed_at, body)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (name, version) DO UPDATE
         SET state = excluded.state, installed_at = excluded.installed_at, body = excluded.body
         WHERE v.digest = excluded.digest",
    )
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string())
    .bind(name(&version.state)?)
    .bind(installed_at)
    .bind(body(version)?);
    if run(db, put).await? == 0 {
        return Err(permanent(format!(
            "{skill} is installed with other bytes: versions are immutable, publish under a new version"
        ))
        .into());
    }
    Ok(())
}

async fn set_skill_state(db: &mut PgConnection, skill: &SkillRef, state: SkillState) -> Written<()> {
    let found: Option<String> = query_scalar(
        "SELECT body FROM skill_versions WHERE name = $1 AND version = $2 AND digest = $3 FOR NO KEY UPDATE",
    )
    .bind(skill.name.as_str())
    .bind(skill.version.to_string())
    .bind(skill.digest.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let Some(found) = found else {
        // A task of a version that was never installed here can still fail; that must not keep it from failing.
        tracing::warn!(%skill, "a version that is not installed cannot change its state");
        return Ok(());
    };
    let version = SkillVersion { state, ..noun("skill_versions", &skill.to_string(), &found)? };
    put_skill(db, &version).await
}

async fn put_route(db: &mut PgConnection, route: &Route) -> Written<()> {
    let canary = route.canary.as_ref();
    let put = query(
        "INSERT INTO skill_routes (name, active, canary, canary_runs, canary_failures, rev, updated_at, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (name) DO UPDATE SET active = excluded.active, canary = excluded.canary,
             canary_runs = excluded.canary_runs, canary_failures = excluded.canary_failures, rev = excluded.rev,
             updated_at = excluded.updated_at, body = excluded.body",
    )
    .bind(route.name.as_str())
    .bind(route.active.as_ref().map(ToString::to_string))
    .bind(canary.map(|canary| canary.version.to_string()))
    .bind(canary.map(|canary| i64::from(canary.runs)))
    .bind(canary.map(|canary| i64::from(canary.failures)))
    .bind(int(route.rev)?)
    .bind(route.updated_at.as_millis())
    .bind(body(route)?);
    run(db, put).await.map(drop)
}

/// Counts runs of a version, if it is on trial now.
pub(super) async fn count_runs(
    db: &mut PgConnection,
    skill: &str,
    version: &str,
    runs: i64,
    failures: i64,
) -> Written<()> {
    let count = query(
        "UPDATE skill_routes SET canary_runs = canary_runs + $3, canary_failures = canary_failures + $4
         WHERE name = $1 AND canary = $2",
    );
    run(db, count.bind(skill).bind(version).bind(runs).bind(failures)).await.map(drop)
}

/// `agents.credentials` is the hash of the newest token of the agent that is not revoked.
const KEEP_CREDENTIALS: &str = "UPDATE agents SET credentials =
    (SELECT hash FROM api_tokens WHERE agent_id = agents.id AND revoked_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1)
    WHERE id = $1";

async fn put_agent(db: &mut PgConnection, agent: &Agent) -> Written<()> {
    let put = query(
        "INSERT INTO agents (id, type, status, last_seen, name, created_at, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO UPDATE SET type = excluded.type, status = excluded.status,
             last_seen = excluded.last_seen, name = excluded.name, created_at = excluded.created_at, body = excluded.body",
    )
    .bind(agent.id.as_uuid())
    .bind(name(&agent.role)?)
    .bind(name(&agent.status)?)
    .bind(agent.last_seen.as_millis())
    .bind(kept(&agent.name))
    .bind(agent.created_at.as_millis())
    .bind(body(agent)?);
    run(&mut *db, put).await?;
    run(db, query(KEEP_CREDENTIALS).bind(agent.id.as_uuid())).await.map(drop)
}

/// Never moves the clock of an agent backwards.
async fn touch_agent(db: &mut PgConnection, id: AgentId, at: Timestamp) -> Written<()> {
    let found: Option<String> =
        query_scalar("SELECT body FROM agents WHERE id = $1 AND last_seen < $2 FOR NO KEY UPDATE")
            .bind(id.as_uuid())
            .bind(at.as_millis())
            .fetch_optional(&mut *db)
            .await?;
    let Some(found) = found else { return Ok(()) };
    let agent = Agent { last_seen: at, ..noun("agents", &id.to_string(), &found)? };
    let touch = query("UPDATE agents SET last_seen = $2, body = $3 WHERE id = $1");
    run(db, touch.bind(id.as_uuid()).bind(at.as_millis()).bind(body(&agent)?)).await.map(drop)
}

async fn put_token(db: &mut PgConnection, token: &ApiToken) -> Written<()> {
    let agent = match token.scope {
        TokenScope::Operator => None,
        TokenScope::Agent(agent) => Some(agent.as_uuid()),
    };
    let put = query(
        "INSERT INTO api_tokens (id, hash, agent_id, created_at, revoked_at, body) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, agent_id = excluded.agent_id,
             created_at = excluded.created_at, revoked_at = excluded.revoked_at, body = excluded.body",
    )
    .bind(token.id.as_uuid())
    .bind(token.hash.to_string())
    .bind(agent)
    .bind(token.created_at.as_millis())
    .bind(token.revoked_at.map(Timestamp::as_millis))
    .bind(body(token)?);
    run(&mut *db, put).await?;
    if let Some(agent) = agent {
        run(db, query(KEEP_CREDENTIALS).bind(agent)).await?;
    }
    Ok(())
}

async fn put_memory(db: &mut PgConnection, item: &MemoryItem) -> Written<()> {
    let put = query(
        "INSERT INTO agent_memory (id, agent_id, created_at, bytes, body) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET agent_id = excluded.agent_id, created_at = excluded.created_at,
             bytes = excluded.bytes, body = excluded.body",
    )
    .bind(item.id)
    .bind(item.agent.as_uuid())
    .bind(item.created_at.as_millis())
    .bind(size(item.size())?)
    .bind(body(item)?);
    run(db, put).await.map(drop)
}

/// Forgets the oldest of what the agent keeps, the new item aside, until the rest is within its bounds.
async fn trim_memory(db: &mut PgConnection, item: &MemoryItem) -> Written<()> {
    let (items, bytes) = kept_of(db, item.agent, "memory").await?;
    let (most_items, most_bytes) = (size(MemoryItem::MAX_ITEMS)?, size(MemoryItem::MAX_BYTES)?);
    if items <= most_items && bytes <= most_bytes {
        return Ok(());
    }
    // Each item with what is left once it and all older ones are gone: those before which it is still too much, go.
    let forget = query(
        "DELETE FROM agent_memory WHERE id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER oldest AS before, sum(bytes) OVER oldest - bytes AS bytes_before
                 FROM agent_memory WHERE agent_id = $1 AND id <> $2
                 WINDOW oldest AS (ORDER BY created_at, id)) AS aged
             WHERE $3 - (before - 1) > $4 OR $5 - bytes_before > $6)",
    );
    let forget = forget.bind(item.agent.as_uuid()).bind(item.id).bind(items).bind(most_items).bind(bytes);
    run(db, forget.bind(most_bytes)).await.map(drop)
}

/// How much an agent keeps of something: items and bytes.
async fn kept_of(db: &mut PgConnection, agent: AgentId, what: &'static str) -> Written<(i64, i64)> {
    let found = query_as("SELECT items, bytes FROM kept WHERE agent_id = $1 AND what = $2")
        .bind(agent.as_uuid())
        .bind(what)
        .fetch_optional(db)
        .await?;
    Ok(found.unwrap_or_default())
}

async fn put_scratch(db: &mut PgConnection, item: &ScratchItem) -> Written<()> {
    let put = query(
        "INSERT INTO ephemeral_memory (agent_id, key, expires_at, bytes, value) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (agent_id, key) DO UPDATE
         SET expires_at = excluded.expires_at, bytes = excluded.bytes, value = excluded.value",
    )
    .bind(item.agent.as_uuid())
    .bind(kept(&item.key))
    .bind(item.expires_at.as_millis())
    .bind(size(item.size())?)
    .bind(body(&item.value)?);
    run(db, put).await.map(drop)
}

/// The same observation replayed has the same id and counts once.
async fn add_trend(db: &mut PgConnection, item: &TrendItem) -> Written<()> {
    if !TrendItem::is_weight(item.weight) {
        return Err(permanent(format!("the weight of an observation is {}; it must be 0 to 1e9", item.weight)).into());
    }
    let add = query(
        "INSERT INTO content_trends (id, agent_id, topic, weight, source, observed_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(item.id)
    .bind(item.agent.as_uuid())
    .bind(kept(&item.topic))
    .bind(item.weight)
    .bind(kept(&item.source))
    .bind(item.observed_at.as_millis());
    run(db, add).await.map(drop)
}

/// Forgets the oldest observations when there are too many, the new one aside.
async fn trim_trends(db: &mut PgConnection, item: &TrendItem) -> Written<()> {
    let too_many = kept_of(db, item.agent, "trends").await?.0 - size(TrendItem::MAX_ITEMS)?;
    if too_many <= 0 {
        return Ok(());
    }
    let forget = query(
        "DELETE FROM content_trends WHERE id IN
             (SELECT id FROM content_trends WHERE agent_id = $1 AND id <> $2 ORDER BY observed_at, id LIMIT $3)",
    );
    run(db, forget.bind(item.agent.as_uuid()).bind(item.id).bind(too_many)).await.map(drop)
}
