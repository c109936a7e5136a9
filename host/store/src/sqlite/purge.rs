//! Throws away what is kept for a time only: expired ephemeral memory, old observations, journals that nothing replays.
//!
//! A little at a time, in turn with the others' work, so that nobody waits for it; while there is more, every turn goes
//! on. How long things are kept is core's to say. Called by the writer when the outbox is claimed.

use super::statement::{Session, statement};
use crate::rows::{PortResult, size};
use chimera_core::clock::Timestamp;
use chimera_core::journal;
use chimera_core::records::TrendItem;
use std::time::Duration;

/// How often it is looked for, once everything was thrown away.
const EVERY: Duration = Duration::from_secs(60);
/// Most rows of one kind in one turn.
const ROWS: u32 = 1000;
/// Most tasks whose journals are looked at in one turn.
const TASKS: u32 = 500;

/// How far the throwing away has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Purge {
    /// When nothing was left the last time.
    done_at: Option<Timestamp>,
    ended: Place,
    restarted: Place,
}

/// The last task that was seen to: tasks that change come after it again.
#[derive(Debug, Clone, Default)]
struct Place {
    updated_at: i64,
    task: String,
}

/// Whether a turn left something for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    More,
}

impl Left {
    fn and(self, other: Self) -> Self {
        if self == Self::More { Self::More } else { other }
    }
}

/// The journals of which tasks, and which of their epochs.
struct Journals {
    /// Tasks after a place and not changed after a moment.
    tasks: &'static str,
    /// The epochs before the task's own, and this many more.
    beyond: i64,
}

/// The states are those that are final: a test holds them against core's. The index is named because the planner would
/// rather sort all tasks that ended.
const ENDED: Journals = Journals {
    tasks: "SELECT updated_at, id, epoch FROM tasks INDEXED BY tasks_ended
            WHERE status IN ('approved', 'rejected', 'failed', 'cancelled')
                AND (updated_at, id) > (?, ?) AND updated_at <= ? ORDER BY updated_at, id LIMIT ?",
    beyond: 1,
};
const RESTARTED: Journals = Journals {
    tasks: "SELECT updated_at, id, epoch FROM tasks INDEXED BY tasks_restarted
            WHERE epoch > 0 AND (updated_at, id) > (?, ?) AND updated_at <= ? ORDER BY updated_at, id LIMIT ?",
    beyond: 0,
};

impl Purge {
    /// One turn, unless nothing was left a short while ago.
    pub(super) fn turn(&mut self, db: &Session<'_>, now: Timestamp) -> PortResult<()> {
        if self.done_at.is_some_and(|done_at| now.since(done_at) < EVERY) {
            return Ok(());
        }
        // A turn that fails is rolled back, so it must not have come any further.
        let mut next = self.clone();
        let scratch = delete(db, OLD_SCRATCH, now)?;
        let trends = delete(db, OLD_TRENDS, before(now, TrendItem::KEPT))?;
        let ended = journals(db, &ENDED, &mut next.ended, before(now, journal::KEPT))?;
        let restarted = journals(db, &RESTARTED, &mut next.restarted, before(now, journal::OLD_EPOCH_KEPT))?;
        let left = scratch.and(trends).and(ended).and(restarted);
        next.done_at = (left == Left::Nothing).then_some(now);
        *self = next;
        Ok(())
    }
}

const OLD_SCRATCH: &str = "DELETE FROM ephemeral_memory WHERE rowid IN
    (SELECT rowid FROM ephemeral_memory WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)";
const OLD_TRENDS: &str = "DELETE FROM content_trends WHERE rowid IN
    (SELECT rowid FROM content_trends WHERE observed_at <= ? ORDER BY observed_at LIMIT ?)";
const OLD_JOURNAL: &str = "DELETE FROM journal WHERE rowid IN
    (SELECT rowid FROM journal WHERE task_id = ? AND epoch < ? LIMIT ?)";

fn before(now: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn delete(db: &Session<'_>, sql: &'static str, until: Timestamp) -> PortResult<Left> {
    let gone = statement(db, sql)?.bind(until.as_millis()).bind(ROWS).run()?;
    Ok(if gone < ROWS as usize { Left::Nothing } else { Left::More })
}

fn journals(db: &Session<'_>, which: &Journals, place: &mut Place, until: Timestamp) -> PortResult<Left> {
    let tasks: Vec<(i64, String, i64)> = statement(db, which.tasks)?
        .bind(place.updated_at)
        .bind(place.task.as_str())
        .bind(until.as_millis())
        .bind(TASKS)
        .all(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let left = if tasks.len() < TASKS as usize { Left::Nothing } else { Left::More };
    let mut room = ROWS as usize;
    for (updated_at, task, epoch) in tasks {
        let journal = statement(db, OLD_JOURNAL)?.bind(task.as_str()).bind(epoch + which.beyond).bind(size(room)?);
        room = room.saturating_sub(journal.run()?);
        if room == 0 {
            // This task may have more: the next turn begins with it.
            return Ok(Left::More);
        }
        *place = Place { updated_at, task };
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_core::task::TaskState;

    #[test]
    fn the_states_that_ended_are_the_final_ones() {
        for state in TaskState::ALL {
            let is_named = ENDED.tasks.contains(&format!("'{}'", state.as_str()));
            assert_eq!(is_named, state.is_final(), "{}", state.as_str());
        }
    }
}
