//! The queue in Redis: streams, one a shard and priority, with one consumer group.
//!
//! A shard's tasks of the usual priority are on the stream `task_queue:<planner>`, those of another one on the stream with
//! the suffix `#<priority>`; an index beside them holds each task once. Everything is done by scripts, so each call is one
//! round trip and whole or not done at all. What time it is the server says: the hosts' clocks may differ. It decides
//! nothing, and losing it loses nothing. Called by the relay and the workers.

use super::link::Redis;
use super::named;
use crate::rows::PortResult;
use ::redis::{Pipeline, Script};
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::{PortError, PortErrorKind, Queue, Queued};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Whose stream has no suffix.
const USUAL: u8 = 5;
const PRIORITIES: usize = 10;
/// Most tasks on the queue of one shard. Those beyond it wait in the truth until it is asked again.
const MOST_TASKS: u64 = 1_000_000;
/// The longest claim; a longer one ends after this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// One name for everybody: a claim is told apart by how often its entry was given, so no name of a process that is no more
/// stays behind, and none has to be known to get its tasks back.
const CONSUMER: &str = "chimera";
/// Most tasks of one call of the script, which nothing else can come between, and most calls in one round trip.
const PUSH_AT_ONCE: usize = 100;
const PUSHES_AT_ONCE: usize = 10;
/// Most tasks of one claim.
const MOST_CLAIMED: u32 = 1000;
/// Claims that one call of the script ends.
const RELEASE_AT_ONCE: u32 = 500;

/// A queue in Redis 6.2 or newer; see [`Queue`]. Cloning it is cheap.
///
/// The `now` of its callers is not believed: a claim lasts as long as lies between `now` and `visible_again`, at most a
/// day, by the server's clock. A claim takes at most 1,000 tasks; a shard holds at most a million, and more are not taken
/// on, which is no error: they are in the truth.
#[derive(Clone)]
pub struct RedisQueue {
    redis: Redis,
    scripts: Arc<Scripts>,
}

struct Scripts {
    push: Script,
    claim: Script,
    ack: Script,
    release: Script,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisQueue").field(&self.redis).finish()
    }
}

/// The names of what a shard has in Redis.
struct Shard {
    base: String,
}

impl Shard {
    fn stream(&self, priority: u8) -> String {
        if priority == USUAL { self.base.clone() } else { format!("{}#{priority}", self.base) }
    }

    fn streams(&self) -> Vec<String> {
        (0..PRIORITIES as u8).map(|priority| self.stream(priority)).collect()
    }

    fn index(&self) -> String {
        format!("{}#tasks", self.base)
    }

    fn searched(&self) -> String {
        format!("{}#searched", self.base)
    }
}

impl RedisQueue {
    /// The queue on that server.
    pub fn new(redis: Redis) -> Self {
        let scripts = Scripts {
            push: Script::new(include_str!("push.lua")),
            claim: Script::new(include_str!("claim.lua")),
            ack: Script::new(include_str!("ack.lua")),
            release: Script::new(include_str!("release.lua")),
        };
        Self { redis, scripts: Arc::new(scripts) }
    }

    fn shard(&self, planner_id: &str) -> Shard {
        Shard { base: named(self.redis.prefix(), "task_queue", planner_id) }
    }

    /// The set of the shards that anything was ever put on.
    fn shards(&self) -> String {
        format!("{}task_queues", self.redis.prefix())
    }

    async fn release_stream(&self, stream: &str, searched: &str) -> PortResult<()> {
        let mut from = "-".to_owned();
        while !from.is_empty() {
            let mut calls = Pipeline::new();
            let call = calls.cmd("EVALSHA").arg(self.scripts.release.get_hash()).arg(2).arg(stream).arg(searched);
            call.arg(&from).arg(millis(LONGEST)).arg(CONSUMER).arg(RELEASE_AT_ONCE);
            (from,) = self.redis.calls(&self.scripts.release, &calls).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], _: Timestamp) -> Result<(), PortError> {
        let shard = self.shard(planner_id);
        let (index, shards, streams) = (shard.index(), self.shards(), shard.streams());
        for batch in tasks.chunks(PUSH_AT_ONCE * PUSHES_AT_ONCE) {
            let mut calls = Pipeline::new();
            for tasks in batch.chunks(PUSH_AT_ONCE) {
                let call = calls.cmd("EVALSHA").arg(self.scripts.push.get_hash()).arg(2 + streams.len());
                call.arg(&index).arg(&shards).arg(&streams).arg(planner_id).arg(MOST_TASKS);
                for (task, priority) in tasks {
                    call.arg(task.to_string()).arg((*priority).min(9));
                }
            }
            let _: Vec<u64> = self.redis.calls(&self.scripts.push, &calls).await?;
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
        if limit == 0 {
            return Ok(Vec::new());
        }
        let shard = self.shard(planner_id);
        let lasts = visible_again.since(now).min(LONGEST);
        let mut calls = Pipeline::new();
        let call = calls.cmd("EVALSHA").arg(self.scripts.claim.get_hash()).arg(1 + PRIORITIES);
        call.arg(shard.searched()).arg(shard.streams());
        call.arg(limit.min(MOST_CLAIMED)).arg(millis(LONGEST - lasts)).arg(millis(LONGEST)).arg(CONSUMER);
        let (receipts,): (Vec<String>,) = self.redis.calls(&self.scripts.claim, &calls).await?;
        receipts.into_iter().map(|receipt| Ok(Queued { task: Receipt::read(&receipt)?.task, receipt })).collect()
    }

    async fn ack(&self, planner_id: &str, receipt: &str) -> Result<(), PortError> {
        let receipt = Receipt::read(receipt)?;
        let shard = self.shard(planner_id);
        let mut calls = Pipeline::new();
        let call = calls.cmd("EVALSHA").arg(self.scripts.ack.get_hash()).arg(2);
        call.arg(shard.stream(receipt.priority)).arg(shard.index());
        call.arg(format!("{}-{}", receipt.entry.0, receipt.entry.1)).arg(receipt.deliveries);
        call.arg(receipt.task.to_string()).arg(receipt.priority);
        let (_,): (u64,) = self.redis.calls(&self.scripts.ack, &calls).await?;
        Ok(())
    }

    async fn release_claims(&self) -> Result<(), PortError> {
        let planners: Vec<String> = self.redis.command(::redis::cmd("SMEMBERS").arg(self.shards())).await?;
        for planner_id in planners {
            let shard = self.shard(&planner_id);
            for stream in shard.streams() {
                self.release_stream(&stream, &shard.searched()).await?;
            }
        }
        Ok(())
    }

    async fn len(&self, planner_id: &str) -> Result<u64, PortError> {
        let mut lengths = Pipeline::new();
        for stream in self.shard(planner_id).streams() {
            lengths.cmd("XLEN").arg(stream);
        }
        let lengths: Vec<u64> = self.redis.pipeline(&lengths).await?;
        Ok(lengths.iter().sum())
    }
}

/// One claim of one entry: `priority.entry.deliveries.task`.
#[derive(Debug, PartialEq, Eq)]
struct Receipt {
    priority: u8,
    entry: (u64, u64),
    deliveries: u64,
    task: TaskId,
}

impl Receipt {
    fn read(text: &str) -> PortResult<Self> {
        Self::parse(text)
            .ok_or_else(|| PortError::new(PortErrorKind::Permanent, "the receipt is not one that this queue has given"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let priority = number(parts.next()?).filter(|priority| *priority < PRIORITIES as u8)?;
        let (time, count) = parts.next()?.split_once('-')?;
        let entry = (number(time)?, number(count)?);
        let (deliveries, task) = (number(parts.next()?)?, parts.next()?);
        let task = TaskId::from_str(task).ok().filter(|_| task.len() == 36)?;
        parts.next().is_none().then_some(Self { priority, entry, deliveries, task })
    }
}

/// Digits only.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_core::ids::SystemIds;
    use proptest::prelude::*;

    #[test]
    fn a_receipt_reads_back_and_nothing_else_is_one() {
        let task = TaskId::new(&SystemIds);
        let text = format!("9.1700000000000-3.2.{task}");
        let receipt = Receipt { priority: 9, entry: (1_700_000_000_000, 3), deliveries: 2, task };
        assert_eq!(Receipt::parse(&text), Some(receipt));
        for broken in
            [format!("{text}."), format!("+{text}"), format!("1{text}"), text.replace('-', ""), text.replace("3", "x")]
        {
            assert_eq!(Receipt::parse(&broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_of_receipts_panic(text in "\\PC{0,80}|[0-9.\\-]{0,80}") {
            let _ = Receipt::parse(&text);
        }
    }
}
