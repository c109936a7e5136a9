//! Ephemeral memory: within its limits, for a while, and only for whoever holds the task.

use super::fixtures::{creation, task, writes};
use super::pace::Pace;
use chimera_core::change::Write;
use chimera_core::clock::Timestamp;
use chimera_core::ids::*;
use chimera_core::ports::{Holder, Scratch, ScratchWritten, Truth};
use chimera_core::records::ScratchItem;
use chimera_core::task::{Lease, Task, TaskState};
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;

/// What is tested, and the truth that says who holds a task.
pub struct Setup {
    pub scratch: Arc<dyn Scratch>,
    pub truth: Arc<dyn Truth>,
}

const LONG: i64 = 100_000;

/// A task that is being run.
pub async fn running(truth: &dyn Truth) -> (Task, Holder) {
    let (spec, mut task) = task();
    let lease = Lease { id: LeaseId::new(&SystemIds), worker: AgentId::new(&SystemIds), until: Timestamp::MAX };
    let holder = Holder { task: task.id, lease: lease.id, attempt: 1 };
    task.state = TaskState::Running;
    task.attempt = 1;
    task.lease = Some(lease);
    let _ = truth.commit(creation(&spec, &task)).await.unwrap();
    (task, holder)
}

fn item(agent: AgentId, key: &str, value: Value, expires_at: Timestamp) -> ScratchItem {
    ScratchItem { agent, key: key.to_owned(), value, expires_at }
}

pub async fn a_value_reads_back_until_it_is_replaced_or_deleted(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (_, holder) = running(&*truth).await;
    let (agent, other) = (AgentId::new(&SystemIds), AgentId::new(&SystemIds));
    let (now, long) = (pace.until(0).await, pace.at(LONG));
    let get = async |agent, key| scratch.get(agent, key, now).await.unwrap();
    for value in [json!({ "z": 1, "a": [0.1, 1e21, null] }), json!("two"), json!(null)] {
        let put = scratch.put(holder, item(agent, "k", value.clone(), long), now).await.unwrap();
        assert_eq!(put, ScratchWritten::Done);
        assert_eq!(get(agent, "k").await, Some(value));
    }
    assert_eq!(get(other, "k").await, None, "another agent's memory");
    assert_eq!(get(agent, "K").await, None);
    assert_eq!(scratch.delete(holder, other, "k", now).await.unwrap(), ScratchWritten::Done);
    assert_eq!(get(agent, "k").await, Some(json!(null)));
    for _ in 0..2 {
        assert_eq!(scratch.delete(holder, agent, "k", now).await.unwrap(), ScratchWritten::Done);
        assert_eq!(get(agent, "k").await, None);
    }
}

pub async fn hostile_keys_are_only_keys(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (_, holder) = running(&*truth).await;
    let agent = AgentId::new(&SystemIds);
    let (now, long) = (pace.until(0).await, pace.at(LONG));
    let keys = ["'; DROP TABLE tasks; --", "\u{0}", "\r\nFLUSHALL\r\n", "*", "#due", "\u{202e}✓", "%_\\"];
    for key in keys {
        assert_eq!(
            scratch.put(holder, item(agent, key, json!(key), long), now).await.unwrap(),
            ScratchWritten::Done,
            "{key}"
        );
    }
    for key in keys {
        assert_eq!(scratch.get(agent, key, now).await.unwrap(), Some(json!(key)), "{key}");
    }
}

pub async fn a_value_is_forgotten_at_its_time(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (_, holder) = running(&*truth).await;
    let agent = AgentId::new(&SystemIds);
    let now = pace.until(0).await;
    for (key, until) in [("short", 100), ("long", LONG), ("again", 100)] {
        let put = scratch.put(holder, item(agent, key, json!(1), pace.at(until)), now).await.unwrap();
        assert_eq!(put, ScratchWritten::Done);
    }
    let again = item(agent, "again", json!(2), pace.at(LONG));
    assert_eq!(scratch.put(holder, again, now).await.unwrap(), ScratchWritten::Done);
    let now = pace.until_before(100).await;
    assert_eq!(scratch.get(agent, "short", now).await.unwrap(), Some(json!(1)));
    let now = pace.until(100).await;
    assert_eq!(scratch.get(agent, "short", now).await.unwrap(), None);
    assert_eq!(scratch.get(agent, "long", now).await.unwrap(), Some(json!(1)));
    assert_eq!(scratch.get(agent, "again", now).await.unwrap(), Some(json!(2)), "the newer value's time counts");
}

pub async fn there_is_room_for_so_many_bytes(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (_, holder) = running(&*truth).await;
    let (agent, other) = (AgentId::new(&SystemIds), AgentId::new(&SystemIds));
    let (now, long) = (pace.until(0).await, pace.at(LONG));
    let put =
        async |agent, key: &str, value: Value| scratch.put(holder, item(agent, key, value, long), now).await.unwrap();
    // Each is 1 MiB with its key and the quotes.
    let large = json!("x".repeat((1 << 20) - 4 - 2));
    let fits = ScratchItem::MAX_BYTES >> 20;
    for number in 0..fits {
        assert_eq!(put(agent, &format!("{number:04}"), large.clone()).await, ScratchWritten::Done);
    }
    assert_eq!(put(agent, "more", json!(1)).await, ScratchWritten::Full);
    assert_eq!(scratch.get(agent, "more", now).await.unwrap(), None);
    assert_eq!(put(agent, "0000", large.clone()).await, ScratchWritten::Done, "in the place of the old value");
    let larger = json!("x".repeat((1 << 20) - 4 - 1));
    assert_eq!(put(agent, "0000", larger).await, ScratchWritten::Full);
    assert_eq!(scratch.get(agent, "0000", now).await.unwrap(), Some(large.clone()), "what was refused changed nothing");
    assert_eq!(scratch.delete(holder, agent, "0001", now).await.unwrap(), ScratchWritten::Done);
    assert_eq!(put(agent, "more", large.clone()).await, ScratchWritten::Done);
    assert_eq!(put(agent, "most", json!(1)).await, ScratchWritten::Full);
    assert_eq!(put(other, "k", large).await, ScratchWritten::Done, "another agent has room of its own");
}

pub async fn there_is_room_for_so_many_keys_whoever_writes(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (_, holder) = running(&*truth).await;
    let agent = AgentId::new(&SystemIds);
    let (now, long) = (pace.until(0).await, pace.at(LONG));
    let mut kept = 0;
    for from in (0..ScratchItem::MAX_KEYS + 500).step_by(500) {
        let puts = (from..from + 500).map(|number| {
            let scratch = Arc::clone(&scratch);
            async move { scratch.put(holder, item(agent, &number.to_string(), json!(0), long), now).await.unwrap() }
        });
        kept += join_all(puts).await.into_iter().filter(|put| *put == ScratchWritten::Done).count();
    }
    assert_eq!(kept, ScratchItem::MAX_KEYS);
}

pub async fn a_run_that_was_fenced_off_changes_nothing(setup: Setup, pace: &dyn Pace) {
    let Setup { scratch, truth } = setup;
    let (mut task, old) = running(&*truth).await;
    let agent = AgentId::new(&SystemIds);
    let (now, long) = (pace.until(0).await, pace.at(LONG));
    assert_eq!(scratch.put(old, item(agent, "k", json!("old"), long), now).await.unwrap(), ScratchWritten::Done);
    let lease = LeaseId::new(&SystemIds);
    task.attempt = 2;
    task.rev += 1;
    task.lease = task.lease.map(|held| Lease { id: lease, ..held });
    let _ = truth.commit(writes([Write::PutTask(task.clone())])).await.unwrap();
    let new = Holder { task: task.id, lease, attempt: 2 };
    assert_eq!(scratch.put(new, item(agent, "k", json!("new"), long), now).await.unwrap(), ScratchWritten::Done);
    let strangers = [
        old,
        Holder { attempt: 1, ..new },
        Holder { lease: old.lease, ..new },
        Holder { task: TaskId::new(&SystemIds), ..new },
    ];
    for stranger in strangers {
        let put = scratch.put(stranger, item(agent, "k", json!("late"), long), now).await.unwrap();
        assert_eq!(put, ScratchWritten::Fenced);
        assert_eq!(scratch.delete(stranger, agent, "k", now).await.unwrap(), ScratchWritten::Fenced);
    }
    assert_eq!(scratch.get(agent, "k", now).await.unwrap(), Some(json!("new")));
}
