//! Whether a guard holds, asked inside the transaction that would write.
//!
//! Reads only. Called by the writer.

use super::statement::{Session, id as named, statement};
use crate::rows::{PortResult, int, name, size};
use chimera_core::change::Guard;
use chimera_core::records::ScratchItem;
use chimera_core::task::TaskState;

/// The first guard that does not hold.
pub(super) fn first_broken<'g>(db: &Session<'_>, guards: &'g [Guard]) -> PortResult<Option<&'g Guard>> {
    for guard in guards {
        let holds = match expected(guard) {
            Expect::Found => is_any(db, guard)?,
            Expect::Nothing => !is_any(db, guard)?,
        };
        if !holds {
            return Ok(Some(guard));
        }
    }
    Ok(None)
}

/// What the agent keeps, without what the new value takes the place of, and with the new value.
const SCRATCH_ROOM: &str = "WITH asked (agent, key) AS (VALUES (?, ?)),
    old AS (
        SELECT count(*) AS items, coalesce(sum(bytes), 0) AS bytes FROM ephemeral_memory, asked
        WHERE agent_id = agent AND ephemeral_memory.key = asked.key),
    now AS (
        SELECT coalesce(sum(items), 0) AS items, coalesce(sum(bytes), 0) AS bytes FROM kept, asked
        WHERE agent_id = agent AND what = 'scratch')
    SELECT 1 FROM old, now WHERE now.items - old.items + 1 <= ? AND now.bytes - old.bytes + ? <= ?";

enum Expect {
    Found,
    Nothing,
}

fn expected(guard: &Guard) -> Expect {
    match guard {
        Guard::TaskAbsent(_) | Guard::EffectAbsent(_) | Guard::SkillAbsent(_) | Guard::JournalAbsent(..) => {
            Expect::Nothing
        }
        _ => Expect::Found,
    }
}

/// Is there anything of what a guard asks for?
fn is_any(db: &Session<'_>, guard: &Guard) -> PortResult<bool> {
    let ask = |sql| statement(db, sql);
    let asked = match guard {
        Guard::TaskAbsent(id) => ask("SELECT 1 FROM tasks WHERE id = ?")?.bind(named(id.as_uuid())),
        Guard::TaskRev(id, rev) => {
            ask("SELECT 1 FROM tasks WHERE id = ? AND rev = ?")?.bind(named(id.as_uuid())).bind(int(*rev)?)
        }
        Guard::CampaignRev(id, rev) => {
            ask("SELECT 1 FROM campaigns WHERE id = ? AND rev = ?")?.bind(id.to_string()).bind(int(*rev)?)
        }
        Guard::LeaseCurrent(id, lease, attempt) => {
            ask("SELECT 1 FROM tasks WHERE id = ? AND status = ? AND lease_id = ? AND attempt = ?")?
                .bind(id.to_string())
                .bind(TaskState::Running.as_str())
                .bind(lease.to_string())
                .bind(*attempt)
        }
        Guard::ApprovalOpen(id) => ask("SELECT 1 FROM approvals WHERE id = ? AND state = 'open'")?.bind(id.to_string()),
        Guard::EffectIs(id, state) => {
            ask("SELECT 1 FROM effects WHERE id = ? AND state = ?")?.bind(id.to_string()).bind(name(state)?)
        }
        Guard::EffectAbsent(key) => {
            ask("SELECT 1 FROM effects WHERE lineage = ? AND ordinal = ? AND tool = ? AND arguments_hash = ?")?
                .bind(key.lineage.to_string())
                .bind(key.ordinal)
                .bind(key.tool.as_str())
                .bind(key.arguments_hash.to_string())
        }
        Guard::OutboxPresent(id) => ask("SELECT 1 FROM outbox WHERE id = ?")?.bind(id.to_string()),
        Guard::SkillAbsent(skill) => ask("SELECT 1 FROM skill_versions WHERE name = ? AND version = ?")?
            .bind(skill.name.as_str())
            .bind(skill.version.to_string()),
        Guard::RouteRev(name, rev) => {
            ask("SELECT 1 WHERE coalesce((SELECT rev FROM skill_routes WHERE name = ?), 0) = ?")?
                .bind(name.as_str())
                .bind(int(*rev)?)
        }
        Guard::JournalAbsent(task, epoch, ordinal) => {
            ask("SELECT 1 FROM journal WHERE task_id = ? AND epoch = ? AND ordinal = ?")?
                .bind(task.to_string())
                .bind(*epoch)
                .bind(*ordinal)
        }
        Guard::ScratchRoom(agent, key, bytes) => ask(SCRATCH_ROOM)?
            .bind(agent.to_string())
            .bind(key.as_str())
            .bind(size(ScratchItem::MAX_KEYS)?)
            .bind(size(*bytes)?)
            .bind(size(ScratchItem::MAX_BYTES)?),
    };
    asked.has_any()
}
