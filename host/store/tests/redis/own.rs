//! What only Redis has: keys that somebody takes away, entries of others, the server's clock.

use crate::Keys;
use chimera_core::clock::Timestamp;
use chimera_core::ids::*;
use chimera_core::ports::{PortErrorKind, Queue};
use chimera_store::RedisQueue;

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
