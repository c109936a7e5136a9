//! Whether a guard holds, asked inside the transaction that would write.
//!
//! Reads only. Called by the writer before it applies a change.

use super::rows::{PortResult, int, name, size};
use crate::error::port_error;
use chimera_core::change::Guard;
use chimera_core::records::ScratchItem;
use chimera_core::task::TaskState;
use sqlx::SqliteConnection;
use sqlx::query::QueryScalar;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, query_scalar};

/// The first guard that does not hold.
pub(super) async fn first_broken<'g>(db: &mut SqliteConnection, guards: &'g [Guard]) -> PortResult<Option<&'g Guard>> {
    for guard in guards {
        if !holds(db, guard).await? {
            return Ok(Some(guard));
        }
    }
    Ok(None)
}

type Find<'q> = QueryScalar<'q, Sqlite, i64, SqliteArguments>;

/// What the agent keeps, without what the new value takes the place of, and with the new value.
const SCRATCH_ROOM: &str = "WITH old AS (
        SELECT count(*) AS items, coalesce(sum(bytes), 0) AS bytes FROM ephemeral_memory WHERE agent_id = ?1 AND key = ?2),
    now AS (
        SELECT coalesce(sum(items), 0) AS items, coalesce(sum(bytes), 0) AS bytes FROM kept
        WHERE agent_id = ?1 AND what = 'scratch')
    SELECT 1 FROM old, now WHERE now.items - old.items + 1 <= ?4 AND now.bytes - old.bytes + ?3 <= ?5";

enum Expect {
    Found,
    Nothing,
}

async fn holds(db: &mut SqliteConnection, guard: &Guard) -> PortResult<bool> {
    let (expect, find): (Expect, Find<'_>) = match guard {
        Guard::TaskRev(id, rev) => (
            Expect::Found,
            query_scalar("SELECT 1 FROM tasks WHERE id = ? AND rev = ?").bind(id.to_string()).bind(int(*rev)?),
        ),
        Guard::CampaignRev(id, rev) => (
            Expect::Found,
            query_scalar("SELECT 1 FROM campaigns WHERE id = ? AND rev = ?").bind(id.to_string()).bind(int(*rev)?),
        ),
        Guard::LeaseCurrent(id, lease, attempt) => (
            Expect::Found,
            query_scalar("SELECT 1 FROM tasks WHERE id = ? AND status = ? AND lease_id = ? AND attempt = ?")
                .bind(id.to_string())
                .bind(TaskState::Running.as_str())
                .bind(lease.to_string())
                .bind(*attempt),
        ),
        Guard::ApprovalOpen(id) => (
            Expect::Found,
            query_scalar("SELECT 1 FROM approvals WHERE id = ? AND state = 'open'").bind(id.to_string()),
        ),
        Guard::EffectIs(id, state) => (
            Expect::Found,
            query_scalar("SELECT 1 FROM effects WHERE id = ? AND state = ?").bind(id.to_string()).bind(name(state)?),
        ),
        Guard::EffectAbsent(key) => (
            Expect::Nothing,
            query_scalar("SELECT 1 FROM effects WHERE lineage = ? AND ordinal = ? AND tool = ? AND arguments_hash = ?")
                .bind(key.lineage.to_string())
                .bind(key.ordinal)
                .bind(key.tool.as_str())
                .bind(key.arguments_hash.to_string()),
        ),
        Guard::OutboxPresent(id) => {
            (Expect::Found, query_scalar("SELECT 1 FROM outbox WHERE id = ?").bind(id.to_string()))
        }
        Guard::SkillAbsent(skill) => (
            Expect::Nothing,
            query_scalar("SELECT 1 FROM skill_versions WHERE name = ? AND version = ?")
                .bind(skill.name.as_str())
                .bind(skill.version.to_string()),
        ),
        Guard::RouteRev(name, rev) => (
            Expect::Found,
            query_scalar("SELECT 1 WHERE coalesce((SELECT rev FROM skill_routes WHERE name = ?), 0) = ?")
                .bind(name.as_str())
                .bind(int(*rev)?),
        ),
        Guard::JournalAbsent(task, epoch, ordinal) => (
            Expect::Nothing,
            query_scalar("SELECT 1 FROM journal WHERE task_id = ? AND epoch = ? AND ordinal = ?")
                .bind(task.to_string())
                .bind(*epoch)
                .bind(*ordinal),
        ),
        Guard::ScratchRoom(agent, key, bytes) => (
            Expect::Found,
            query_scalar(SCRATCH_ROOM)
                .bind(agent.to_string())
                .bind(key.as_str())
                .bind(size(*bytes)?)
                .bind(size(ScratchItem::MAX_KEYS)?)
                .bind(size(ScratchItem::MAX_BYTES)?),
        ),
    };
    let found = find.fetch_optional(db).await.map_err(port_error)?;
    Ok(match expect {
        Expect::Found => found.is_some(),
        Expect::Nothing => found.is_none(),
    })
}
