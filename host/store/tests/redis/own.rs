//! What only Redis has: keys that somebody takes away, entries of others, the server's clock.

use crate::Keys;
use crate::contract::scratch::running;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::ids::*;
use chimera_core::ports::{PortErrorKind, Queue, RateLimits, Scratch, ScratchWritten, Truth};
use chimera_core::rate::{RateDecision, RateLimit};
use chimera_core::records::ScratchItem;
use chimera_store::{RedisQueue, RedisRateLimits, RedisScratch, SqliteOptions, SqliteStore};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SHARD: &str = "main";

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn task() -> TaskId {
    TaskId::new(&SystemIds)
}

/// A command of the test's own; the key's name comes after the prefix.
fn raw(keys: &Keys, command: &str, key: &str, arguments: &[&str]) -> redis::Value {
    let mut db = redis::Client::open(crate::server()).unwrap().get_connection().unwrap();
    redis::cmd(command).arg(format!("{}{key}", keys.prefix)).arg(arguments).query(&mut db).unwrap()
}

async fn claimed(queue: &RedisQueue) -> Vec<TaskId> {
    queue.claim(SHARD, 1000, at(0), at(60_000)).await.unwrap().into_iter().map(|queued| queued.task).collect()
}

#[tokio::test]
async fn keys_are_named_as_the_contract_says() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    queue.push(SHARD, &[(task(), 5), (task(), 9)], at(0)).await.unwrap();
    assert_eq!(raw(&keys, "TYPE", "task_queue:main", &[]), redis::Value::SimpleString("stream".to_owned()));
    assert_eq!(raw(&keys, "XLEN", "task_queue:main", &[]), redis::Value::Int(1));
    assert_eq!(raw(&keys, "XLEN", "task_queue:main#9", &[]), redis::Value::Int(1));
}

#[tokio::test]
async fn whatever_key_is_taken_away_the_tasks_can_be_queued_again() {
    for taken in ["task_queue:main", "task_queue:main#tasks", "task_queue:main#9", "task_queues"] {
        let keys = Keys::new();
        let queue = RedisQueue::new(keys.redis().await);
        let tasks = [(task(), 9), (task(), 5), (task(), 5)];
        queue.push(SHARD, &tasks, at(0)).await.unwrap();
        raw(&keys, "DEL", taken, &[]);
        queue.push(SHARD, &tasks, at(0)).await.unwrap();
        let mut came = claimed(&queue).await;
        // Twice is no fault: leases are what holds runs apart.
        came.dedup();
        came.sort();
        came.dedup();
        let mut expected = tasks.map(|(task, _)| task);
        expected.sort();
        assert_eq!(came, expected, "{taken} was taken away");
    }
}

#[tokio::test]
async fn a_group_that_was_taken_away_is_made_again() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    let tasks = [(task(), 5), (task(), 5)];
    queue.push(SHARD, &tasks, at(0)).await.unwrap();
    let first = queue.claim(SHARD, 1, at(0), at(60_000)).await.unwrap().remove(0);
    let mut db = redis::Client::open(crate::server()).unwrap().get_connection().unwrap();
    let key = format!("{}task_queue:main", keys.prefix);
    let gone: u64 = redis::cmd("XGROUP").arg("DESTROY").arg(key).arg("workers").query(&mut db).unwrap();
    assert_eq!(gone, 1);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    queue.release_claims().await.unwrap();
    assert_eq!(claimed(&queue).await, tasks.map(|(task, _)| task), "the old receipt took nothing away");
}

#[tokio::test]
async fn entries_that_are_no_tasks_are_thrown_away() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    let good = task();
    queue.push(SHARD, &[(good, 5)], at(0)).await.unwrap();
    for entry in [["task", "; DROP"], ["x", "y"], ["task", "--------------------------------ffff"]] {
        raw(&keys, "XADD", "task_queue:main", &[&["*"], &entry[..]].concat());
    }
    assert_eq!(claimed(&queue).await, [good]);
    assert_eq!(queue.len(SHARD).await.unwrap(), 1);
}

#[tokio::test]
async fn a_key_that_is_something_else_is_named() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    raw(&keys, "SET", "task_queue:main", &["mine"]);
    let error = queue.push(SHARD, &[(task(), 5)], at(0)).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt, "{error}");
    let error = queue.claim(SHARD, 1, at(0), at(1)).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt, "{error}");
}

/// More claims than one call looks at, all of which go on: those behind them must be found all the same.
#[tokio::test]
async fn a_claim_that_is_over_is_found_behind_many_that_are_not() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    let tasks: Vec<(TaskId, u8)> = (0..1_001).map(|_| (task(), 5)).collect();
    queue.push(SHARD, &tasks, at(0)).await.unwrap();
    assert_eq!(queue.claim(SHARD, 1_000, at(0), at(3_600_000)).await.unwrap().len(), 1_000);
    let last = queue.claim(SHARD, 1, at(0), at(1)).await.unwrap().remove(0).task;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let mut found = Vec::new();
    for _ in 0..100 {
        found.extend(queue.claim(SHARD, 1, at(0), at(3_600_000)).await.unwrap());
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found.iter().map(|queued| queued.task).collect::<Vec<_>>(), [last]);
}

#[tokio::test]
async fn the_hosts_clock_is_not_believed() {
    let keys = Keys::new();
    let queue = RedisQueue::new(keys.redis().await);
    let only = task();
    queue.push(SHARD, &[(only, 5)], at(0)).await.unwrap();
    assert_eq!(queue.claim(SHARD, 1, at(1_000_000_000), at(1_000_060_000)).await.unwrap().len(), 1);
    // A host whose clock is years ahead does not see what is claimed.
    assert_eq!(queue.claim(SHARD, 1, Timestamp::MAX, Timestamp::MAX).await.unwrap(), []);
}

/// Ephemeral memory of one agent, and a run that may write.
struct Memory {
    keys: Keys,
    scratch: RedisScratch,
    agent: AgentId,
    holder: chimera_core::ports::Holder,
    _folder: tempfile::TempDir,
}

impl Memory {
    async fn open() -> Self {
        let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
        let truth: Arc<dyn Truth> =
            Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap());
        let (_, holder) = running(&*truth).await;
        let scratch = RedisScratch::new(keys.redis().await, truth);
        Self { keys, scratch, agent: AgentId::new(&SystemIds), holder, _folder: folder }
    }

    async fn put(&self, key: &str, value: serde_json::Value, lasts: Duration) -> ScratchWritten {
        let now = SystemClock.now();
        let item = ScratchItem { agent: self.agent, key: key.to_owned(), value, expires_at: now.plus(lasts) };
        self.scratch.put(self.holder, item, now).await.unwrap()
    }

    async fn get(&self, key: &str) -> Option<serde_json::Value> {
        self.scratch.get(self.agent, key, SystemClock.now()).await.unwrap()
    }

    fn key(&self, suffix: &str) -> String {
        format!("ephemeral_memory:{}{suffix}", self.agent)
    }
}

#[tokio::test]
async fn memory_goes_away_by_itself_an_hour_after_the_last_value() {
    let memory = Memory::open().await;
    assert_eq!(memory.put("k", json!(1), ScratchItem::KEPT).await, ScratchWritten::Done);
    assert_eq!(memory.put("short", json!(1), Duration::from_millis(1)).await, ScratchWritten::Done);
    for suffix in ["", "#due", "#bytes"] {
        let redis::Value::Int(left) = raw(&memory.keys, "PTTL", &memory.key(suffix), &[]) else { panic!("no time") };
        assert!((3_590_000..=3_600_000).contains(&left), "{suffix}: {left}");
    }
    assert_eq!(raw(&memory.keys, "TYPE", &memory.key(""), &[]), redis::Value::SimpleString("hash".to_owned()));
}

#[tokio::test]
async fn what_is_over_makes_room() {
    let memory = Memory::open().await;
    // Longer than fifteen megabytes take on a busy machine.
    let lasts = Duration::from_secs(4);
    let large = json!("x".repeat(1 << 20));
    for number in 0..15 {
        assert_eq!(memory.put(&number.to_string(), large.clone(), lasts).await, ScratchWritten::Done);
    }
    assert_eq!(memory.put("more", large.clone(), ScratchItem::KEPT).await, ScratchWritten::Full);
    tokio::time::sleep(lasts + Duration::from_millis(50)).await;
    for number in 0..15 {
        assert_eq!(memory.put(&format!("new {number}"), large.clone(), ScratchItem::KEPT).await, ScratchWritten::Done);
    }
    assert_eq!(memory.put("more", large, ScratchItem::KEPT).await, ScratchWritten::Full);
    assert_eq!(raw(&memory.keys, "HLEN", &memory.key(""), &[]), redis::Value::Int(15));
}

#[tokio::test]
async fn of_memory_that_lost_a_part_nothing_counts_for_ever() {
    for taken in ["", "#due", "#bytes"] {
        let memory = Memory::open().await;
        let large = json!("x".repeat(1 << 20));
        for number in 0..15 {
            assert_eq!(memory.put(&number.to_string(), large.clone(), ScratchItem::KEPT).await, ScratchWritten::Done);
        }
        raw(&memory.keys, "DEL", &memory.key(taken), &[]);
        for number in 0..15 {
            let put = memory.put(&format!("new {number}"), large.clone(), ScratchItem::KEPT).await;
            assert_eq!(put, ScratchWritten::Done, "{taken} was taken away");
        }
        assert_eq!(memory.get("new 0").await, Some(large));
    }
}

#[tokio::test]
async fn a_value_that_is_not_json_is_an_error_and_no_more() {
    let memory = Memory::open().await;
    assert_eq!(memory.put("k", json!(1), ScratchItem::KEPT).await, ScratchWritten::Done);
    raw(&memory.keys, "HSET", &memory.key(""), &["k", "{"]);
    let error = memory.scratch.get(memory.agent, "k", SystemClock.now()).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt, "{error}");
    assert_eq!(memory.put("k", json!(2), ScratchItem::KEPT).await, ScratchWritten::Done);
    assert_eq!(memory.get("k").await, Some(json!(2)));
}

/// However the calls of several hosts fall, the server lets no more through within any window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_has_more_calls_than_the_limit_whoever_calls() {
    let keys = Keys::new();
    let agent = AgentId::new(&SystemIds);
    let limit = RateLimit::new(5, Duration::from_millis(50));
    let started = Instant::now();
    let allowed = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (rates, allowed) = (RedisRateLimits::new(keys.redis().await), allowed.clone());
        callers.push(tokio::spawn(async move {
            while started.elapsed() < Duration::from_millis(600) {
                let before = started.elapsed();
                if rates.decide(agent, limit, at(0)).await.unwrap() == RateDecision::Allowed {
                    let mut allowed = allowed.lock().unwrap();
                    allowed.0.push(before);
                    allowed.1.push(started.elapsed());
                }
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let (mut before, mut after) = std::mem::take(&mut *allowed.lock().unwrap());
    before.sort();
    after.sort();
    assert!(before.len() > 5 && before.len() <= 70, "{}", before.len());
    // The server's moment of each lies between the two; it counts whole milliseconds.
    for (first, sixth) in before.iter().zip(after.iter().skip(5)) {
        assert!(*sixth - *first >= Duration::from_millis(49), "{first:?} {sixth:?}");
    }
    let redis::Value::Int(left) = raw(&keys, "PTTL", &format!("rate_limit:{agent}"), &[]) else { panic!("no time") };
    assert!(left <= 50, "it goes away by itself");
}
