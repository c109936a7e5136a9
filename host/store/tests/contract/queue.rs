//! The queue: hidden while claimed, back when not acknowledged.

use super::pace::Pace;
use chimera_core::clock::Timestamp;
use chimera_core::ids::*;
use chimera_core::ports::{PortErrorKind, Queue};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;

const SHARD: &str = "main";
/// Long after the end of every test.
const LONG: i64 = 100_000;

fn task() -> TaskId {
    TaskId::new(&SystemIds)
}

async fn claim(queue: &dyn Queue, now: Timestamp, until: Timestamp) -> Vec<TaskId> {
    queue.claim(SHARD, 100, now, until).await.unwrap().into_iter().map(|queued| queued.task).collect()
}

pub async fn tasks_come_by_priority_then_age(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let (a, b, c, d) = (task(), task(), task(), task());
    let long = pace.at(LONG);
    queue.push(SHARD, &[(a, 5), (b, 9)], pace.until(0).await).await.unwrap();
    queue.push(SHARD, &[(c, 5), (d, 0)], pace.until(1).await).await.unwrap();
    assert_eq!(queue.claim(SHARD, 0, pace.until(1).await, long).await.unwrap(), []);
    let first = queue.claim(SHARD, 1, pace.until(1).await, long).await.unwrap();
    assert_eq!(first.iter().map(|queued| queued.task).collect::<Vec<_>>(), [b]);
    assert_eq!(claim(&*queue, pace.until(1).await, long).await, [a, c, d]);
    assert_eq!(queue.len(SHARD).await.unwrap(), 4, "claimed ones are counted");
}

pub async fn every_priority_has_its_place(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let tasks: Vec<(TaskId, u8)> = (0..30).map(|index| (task(), (index * 7 % 10) as u8)).collect();
    queue.push(SHARD, &tasks, pace.until(0).await).await.unwrap();
    let mut expected = tasks.clone();
    expected.sort_by_key(|(_, priority)| std::cmp::Reverse(*priority));
    let expected: Vec<TaskId> = expected.into_iter().map(|(task, _)| task).collect();
    assert_eq!(claim(&*queue, pace.until(0).await, pace.at(LONG)).await, expected);
}

pub async fn more_tasks_than_go_at_once_are_all_put_on(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let tasks: Vec<(TaskId, u8)> = (0..2_345).map(|_| (task(), 5)).collect();
    queue.push(SHARD, &tasks, pace.until(0).await).await.unwrap();
    queue.push(SHARD, &tasks, pace.until(0).await).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 2_345);
    let mut claimed = Vec::new();
    while claimed.len() < tasks.len() {
        let more = queue.claim(SHARD, 1_000, pace.until(0).await, pace.at(LONG)).await.unwrap();
        assert!(!more.is_empty(), "only {} came", claimed.len());
        claimed.extend(more.into_iter().map(|queued| queued.task));
    }
    assert_eq!(claimed, tasks.into_iter().map(|(task, _)| task).collect::<Vec<_>>());
}

pub async fn a_task_is_on_the_queue_once(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let a = task();
    let long = pace.at(LONG);
    queue.push(SHARD, &[(a, 5), (a, 5)], pace.until(0).await).await.unwrap();
    queue.push(SHARD, &[(a, 9)], pace.until(1).await).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1);
    assert_eq!(claim(&*queue, pace.until(1).await, long).await, [a]);
    queue.push(SHARD, &[(a, 9)], pace.until(2).await).await.unwrap();
    assert_eq!(claim(&*queue, pace.until(2).await, long).await, [], "pushing again does not show what is claimed");
    queue.push(SHARD, &[], pace.until(2).await).await.unwrap();
}

pub async fn a_claimed_task_is_hidden_until_its_time(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], pace.until(0).await).await.unwrap();
    assert_eq!(claim(&*queue, pace.until(0).await, pace.at(100)).await, [a]);
    assert_eq!(claim(&*queue, pace.until_before(100).await, pace.at(200)).await, []);
    let again = queue.claim(SHARD, 10, pace.until(100).await, pace.at(200)).await.unwrap();
    assert_eq!(again.len(), 1);
    queue.ack(SHARD, &again[0].receipt).await.unwrap();
    queue.ack(SHARD, &again[0].receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 0);
    assert_eq!(claim(&*queue, pace.until(300).await, pace.at(400)).await, []);
}

pub async fn each_claim_lasts_as_long_as_it_said(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let (long, short) = (task(), task());
    queue.push(SHARD, &[(long, 5), (short, 5)], pace.until(0).await).await.unwrap();
    let one = async |until| queue.claim(SHARD, 1, pace.until(0).await, until).await.unwrap().remove(0).task;
    assert_eq!(one(pace.at(LONG)).await, long);
    assert_eq!(one(pace.at(50)).await, short);
    assert_eq!(
        claim(&*queue, pace.until(50).await, pace.at(LONG)).await,
        [short],
        "the later claim was the shorter one"
    );
    assert_eq!(claim(&*queue, pace.until(51).await, pace.at(LONG)).await, []);
}

pub async fn a_late_receipt_does_not_take_a_newer_claim_away(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], pace.until(0).await).await.unwrap();
    let first = queue.claim(SHARD, 1, pace.until(0).await, pace.at(100)).await.unwrap().remove(0);
    let second = queue.claim(SHARD, 1, pace.until(100).await, pace.at(LONG)).await.unwrap().remove(0);
    assert_ne!(first.receipt, second.receipt);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1, "the late one took the newer claim's task away");
    queue.ack(SHARD, &second.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 0);
}

pub async fn a_receipt_is_worth_nothing_after_the_task_was_queued_anew(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], pace.until(0).await).await.unwrap();
    let first = queue.claim(SHARD, 1, pace.until(0).await, pace.at(LONG)).await.unwrap().remove(0);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    queue.push(SHARD, &[(a, 5)], pace.until(1).await).await.unwrap();
    let _second = queue.claim(SHARD, 1, pace.until(1).await, pace.at(LONG)).await.unwrap().remove(0);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1);
}

pub async fn released_claims_come_back(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let (a, b) = (task(), task());
    queue.push(SHARD, &[(a, 5), (b, 4)], pace.until(0).await).await.unwrap();
    let claimed = queue.claim(SHARD, 1, pace.until(0).await, pace.at(LONG)).await.unwrap().remove(0);
    queue.release_claims().await.unwrap();
    queue.ack(SHARD, &claimed.receipt).await.unwrap();
    assert_eq!(claim(&*queue, pace.until(1).await, pace.at(LONG)).await, [a, b], "the receipt outlived its claim");
}

pub async fn a_task_is_claimed_by_one(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let tasks: Vec<(TaskId, u8)> = (0..200).map(|index| (task(), (index % 10) as u8)).collect();
    queue.push(SHARD, &tasks, pace.until(0).await).await.unwrap();
    let (now, long) = (pace.until(1).await, pace.at(LONG));
    let claimers = (0..10).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = queue.claim(SHARD, 7, now, long).await.unwrap();
                // More than there is: a claim is given twice, which would never end.
                if claimed.is_empty() || mine.len() > 200 {
                    return mine;
                }
                for queued in claimed {
                    queue.ack(SHARD, &queued.receipt).await.unwrap();
                    mine.push(queued.task);
                }
            }
        })
    });
    let claimed: Vec<TaskId> = join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claimed.len(), tasks.len());
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), tasks.iter().map(|(id, _)| *id).collect());
    assert_eq!(queue.len(SHARD).await.unwrap(), 0);
}

pub async fn shards_do_not_see_each_other(queue: Arc<dyn Queue>, pace: &dyn Pace) {
    let (a, b) = (task(), task());
    queue.push(SHARD, &[(a, 5)], pace.until(0).await).await.unwrap();
    queue.push("other", &[(b, 5)], pace.until(0).await).await.unwrap();
    assert_eq!(claim(&*queue, pace.until(0).await, pace.at(LONG)).await, [a]);
    let other = queue.claim("other", 10, pace.until(0).await, pace.at(LONG)).await.unwrap().remove(0);
    assert_eq!(other.task, b);
    queue.ack(SHARD, &other.receipt).await.unwrap();
    assert_eq!(queue.len("other").await.unwrap(), 1, "a receipt is good on its own shard only");
    assert_eq!(queue.len("nobody").await.unwrap(), 0);
}

pub async fn a_foreign_receipt_is_refused(queue: Arc<dyn Queue>, _: &dyn Pace) {
    for receipt in ["", "1", "x.y", "1.x", "'; DROP TABLE queue; --", "99999999999999999999.1"] {
        assert_eq!(queue.ack(SHARD, receipt).await.unwrap_err().kind, PortErrorKind::Permanent, "{receipt}");
    }
}
