//! The queue of a process that owns its truth alone: in memory.
//!
//! A queue is transport: what is on it is in the truth as well, and the swarm fills it from there when it starts and now
//! and then afterwards. So within one process nothing is gained by writing it down, and a task comes to its worker without
//! a command to the database. It decides nothing. Opened by the binary and by tests; called by the relay and the workers.

use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::{PortError, PortErrorKind, Queue, Queued};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most tasks on the queue of one shard. Those beyond it wait in the truth until it is asked again.
const MOST_TASKS: usize = 1_000_000;

/// Where a task stands: higher priority first, then who came first.
type Place = (Reverse<u8>, u64);

/// A queue in memory; see [`Queue`].
#[derive(Debug, Default)]
pub struct MemoryQueue {
    shards: Mutex<Shards>,
}

#[derive(Debug, Default)]
struct Shards {
    by_planner: HashMap<String, Shard>,
    /// Counted over all shards and never used twice, so that a receipt names one claim of one task.
    next: u64,
}

#[derive(Debug, Default)]
struct Shard {
    /// Every task on it.
    places: HashMap<TaskId, Place>,
    /// Those that anybody may claim.
    ready: BTreeMap<Place, TaskId>,
    /// Those that were claimed at some time, by the number in their place.
    claimed: HashMap<u64, Claimed>,
    /// Which of those are hidden, by when they come back.
    hidden: BTreeSet<(Timestamp, u64)>,
}

#[derive(Debug)]
struct Claimed {
    task: TaskId,
    priority: u8,
    claims: u64,
    visible_again: Timestamp,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn push(&mut self, task: TaskId, priority: u8, number: u64) {
        if self.places.len() < MOST_TASKS && !self.places.contains_key(&task) {
            let place = (Reverse(priority), number);
            self.places.insert(task, place);
            self.ready.insert(place, task);
        }
    }

    /// Those whose claim is over by now.
    fn show(&mut self, now: Timestamp) {
        while let Some((visible_again, number)) = self.hidden.first().copied().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(visible_again, number));
            if let Some(claimed) = self.claimed.get(&number) {
                self.ready.insert((Reverse(claimed.priority), number), claimed.task);
            }
        }
    }

    fn claim(&mut self, visible_again: Timestamp) -> Option<Queued> {
        let ((Reverse(priority), number), task) = self.ready.pop_first()?;
        let claimed = self.claimed.entry(number).or_insert(Claimed { task, priority, claims: 0, visible_again });
        claimed.claims += 1;
        claimed.visible_again = visible_again;
        self.hidden.insert((visible_again, number));
        Some(Queued { task, receipt: format!("{number}.{}", claimed.claims) })
    }

    /// Only the newest claim's receipt takes the task away.
    fn ack(&mut self, number: u64, claims: u64) {
        if self.claimed.get(&number).is_none_or(|claimed| claimed.claims != claims) {
            return;
        }
        if let Some(Claimed { task, priority, visible_again, .. }) = self.claimed.remove(&number) {
            self.hidden.remove(&(visible_again, number));
            self.ready.remove(&(Reverse(priority), number));
            self.places.remove(&task);
        }
    }

    /// Counts as a claim of its own, so that receipts given before are worth nothing afterwards.
    fn release(&mut self) {
        self.hidden.clear();
        for (number, claimed) in &mut self.claimed {
            claimed.claims += 1;
            self.ready.insert((Reverse(claimed.priority), *number), claimed.task);
        }
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], _: Timestamp) -> Result<(), PortError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut shards = self.lock();
        let Shards { by_planner, next } = &mut *shards;
        let shard = by_planner.entry(planner_id.to_owned()).or_default();
        for (task, priority) in tasks {
            *next += 1;
            shard.push(*task, *priority, *next);
        }
        Ok(())
    }

    async fn claim(
        &self,
        planner_id: &str,
        limit: u32,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Queued>, PortError> {
        let mut shards = self.lock();
        let Some(shard) = shards.by_planner.get_mut(planner_id) else { return Ok(Vec::new()) };
        shard.show(now);
        Ok((0..limit).map_while(|_| shard.claim(visible_again)).collect())
    }

    async fn ack(&self, planner_id: &str, receipt: &str) -> Result<(), PortError> {
        let parts =
            receipt.split_once('.').and_then(|(number, claims)| Some((number.parse().ok()?, claims.parse().ok()?)));
        let Some((number, claims)) = parts else {
            return Err(PortError::new(PortErrorKind::Permanent, "the receipt is not one that this queue has given"));
        };
        if let Some(shard) = self.lock().by_planner.get_mut(planner_id) {
            shard.ack(number, claims);
        }
        Ok(())
    }

    async fn release_claims(&self) -> Result<(), PortError> {
        self.lock().by_planner.values_mut().for_each(Shard::release);
        Ok(())
    }

    async fn len(&self, planner_id: &str) -> Result<u64, PortError> {
        Ok(self.lock().by_planner.get(planner_id).map_or(0, |shard| shard.places.len() as u64))
    }
}
