//! Whether a guard holds, asked inside the transaction that would write.
//!
//! Reads only. Each guard is one statement ahead of a job's writes, and the job is undone if one of them does not hold.
//! Called by the writer.

use super::rows::{PortResult, int, name, size};
use super::script::{Done, Script};
use chimera_core::change::Guard;
use chimera_core::records::ScratchItem;
use chimera_core::task::TaskState;

/// The first guard that does not hold, as their statements, the first of the script, tell. One that could not be asked
/// any more holds as far as anybody knows.
pub(super) fn first_broken<'g>(guards: &'g [Guard], done: &[Done]) -> Option<&'g Guard> {
    let holds = |guard: &Guard, done: &Done| match expected(guard) {
        Expect::Found => !done.rows.is_empty(),
        Expect::Nothing => done.rows.is_empty(),
    };
    guards.iter().zip(done).find(|(guard, done)| !holds(guard, done)).map(|(guard, _)| guard)
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
        Guard::EffectAbsent(_) | Guard::SkillAbsent(_) | Guard::JournalAbsent(..) => Expect::Nothing,
        _ => Expect::Found,
    }
}

/// Adds the question whether a guard holds.
pub(super) fn add(script: &mut Script, guard: &Guard) -> PortResult<()> {
    match guard {
        Guard::TaskRev(id, rev) => {
            script.add("SELECT 1 FROM tasks WHERE id = ? AND rev = ?").bind(id.to_string()).bind(int(*rev)?)
        }
        Guard::CampaignRev(id, rev) => {
            script.add("SELECT 1 FROM campaigns WHERE id = ? AND rev = ?").bind(id.to_string()).bind(int(*rev)?)
        }
        Guard::LeaseCurrent(id, lease, attempt) => script
            .add("SELECT 1 FROM tasks WHERE id = ? AND status = ? AND lease_id = ? AND attempt = ?")
            .bind(id.to_string())
            .bind(TaskState::Running.as_str())
            .bind(lease.to_string())
            .bind(*attempt),
        Guard::ApprovalOpen(id) => {
            script.add("SELECT 1 FROM approvals WHERE id = ? AND state = 'open'").bind(id.to_string())
        }
        Guard::EffectIs(id, state) => {
            script.add("SELECT 1 FROM effects WHERE id = ? AND state = ?").bind(id.to_string()).bind(name(state)?)
        }
        Guard::EffectAbsent(key) => script
            .add("SELECT 1 FROM effects WHERE lineage = ? AND ordinal = ? AND tool = ? AND arguments_hash = ?")
            .bind(key.lineage.to_string())
            .bind(key.ordinal)
            .bind(key.tool.as_str().to_owned())
            .bind(key.arguments_hash.to_string()),
        Guard::OutboxPresent(id) => script.add("SELECT 1 FROM outbox WHERE id = ?").bind(id.to_string()),
        Guard::SkillAbsent(skill) => script
            .add("SELECT 1 FROM skill_versions WHERE name = ? AND version = ?")
            .bind(skill.name.as_str().to_owned())
            .bind(skill.version.to_string()),
        Guard::RouteRev(name, rev) => script
            .add("SELECT 1 WHERE coalesce((SELECT rev FROM skill_routes WHERE name = ?), 0) = ?")
            .bind(name.as_str().to_owned())
            .bind(int(*rev)?),
        Guard::JournalAbsent(task, epoch, ordinal) => script
            .add("SELECT 1 FROM journal WHERE task_id = ? AND epoch = ? AND ordinal = ?")
            .bind(task.to_string())
            .bind(*epoch)
            .bind(*ordinal),
        Guard::ScratchRoom(agent, key, bytes) => script
            .add(SCRATCH_ROOM)
            .bind(agent.to_string())
            .bind(key.as_str().to_owned())
            .bind(size(ScratchItem::MAX_KEYS)?)
            .bind(size(*bytes)?)
            .bind(size(ScratchItem::MAX_BYTES)?),
    };
    Ok(())
}
