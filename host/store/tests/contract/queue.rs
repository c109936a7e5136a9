//! The queue: hidden while claimed, back when not acknowledged.

use super::fixtures::at;
use chimera_core::ids::*;
use chimera_core::ports::{PortErrorKind, Queue};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;

const SHARD: &str = "main";

fn task() -> TaskId {
    TaskId::new(&SystemIds)
}

async fn claim(queue: &dyn Queue, now: i64, until: i64) -> Vec<TaskId> {
    queue.claim(SHARD, 100, at(now), at(until)).await.unwrap().into_iter().map(|queued| queued.task).collect()
}

pub async fn tasks_come_by_priority_then_age(queue: Arc<dyn Queue>) {
    let (a, b, c, d) = (task(), task(), task(), task());
    queue.push(SHARD, &[(a, 5), (b, 9)], at(0)).await.unwrap();
    queue.push(SHARD, &[(c, 5), (d, 0)], at(1)).await.unwrap();
    assert_eq!(queue.claim(SHARD, 0, at(1), at(10)).await.unwrap(), []);
    let first = queue.claim(SHARD, 1, at(1), at(10)).await.unwrap();
    assert_eq!(first.iter().map(|queued| queued.task).collect::<Vec<_>>(), [b]);
    assert_eq!(claim(&*queue, 1, 10).await, [a, c, d]);
    assert_eq!(queue.len(SHARD).await.unwrap(), 4, "claimed ones are counted");
}

pub async fn a_task_is_on_the_queue_once(queue: Arc<dyn Queue>) {
    let a = task();
    queue.push(SHARD, &[(a, 5), (a, 5)], at(0)).await.unwrap();
    queue.push(SHARD, &[(a, 9)], at(1)).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1);
    assert_eq!(claim(&*queue, 1, 10).await, [a]);
    queue.push(SHARD, &[(a, 9)], at(2)).await.unwrap();
    assert_eq!(claim(&*queue, 2, 10).await, [], "pushing again does not show what is claimed");
    queue.push(SHARD, &[], at(2)).await.unwrap();
}

pub async fn a_claimed_task_is_hidden_until_its_time(queue: Arc<dyn Queue>) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], at(0)).await.unwrap();
    assert_eq!(claim(&*queue, 0, 100).await, [a]);
    assert_eq!(claim(&*queue, 99, 200).await, []);
    let again = queue.claim(SHARD, 10, at(100), at(200)).await.unwrap();
    assert_eq!(again.len(), 1);
    queue.ack(SHARD, &again[0].receipt).await.unwrap();
    queue.ack(SHARD, &again[0].receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 0);
    assert_eq!(claim(&*queue, 1_000, 2_000).await, []);
}

pub async fn a_late_receipt_does_not_take_a_newer_claim_away(queue: Arc<dyn Queue>) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], at(0)).await.unwrap();
    let first = queue.claim(SHARD, 1, at(0), at(100)).await.unwrap().remove(0);
    let second = queue.claim(SHARD, 1, at(100), at(200)).await.unwrap().remove(0);
    assert_ne!(first.receipt, second.receipt);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1, "the late one took the newer claim's task away");
    queue.ack(SHARD, &second.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 0);
}

pub async fn a_receipt_is_worth_nothing_after_the_task_was_queued_anew(queue: Arc<dyn Queue>) {
    let a = task();
    queue.push(SHARD, &[(a, 5)], at(0)).await.unwrap();
    let first = queue.claim(SHARD, 1, at(0), at(100)).await.unwrap().remove(0);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    queue.push(SHARD, &[(a, 5)], at(1)).await.unwrap();
    let _second = queue.claim(SHARD, 1, at(1), at(100)).await.unwrap().remove(0);
    queue.ack(SHARD, &first.receipt).await.unwrap();
    assert_eq!(queue.len(SHARD).await.unwrap(), 1);
}

pub async fn released_claims_come_back(queue: Arc<dyn Queue>) {
    let (a, b) = (task(), task());
    queue.push(SHARD, &[(a, 5), (b, 4)], at(0)).await.unwrap();
    let claimed = queue.claim(SHARD, 1, at(0), at(1_000)).await.unwrap().remove(0);
    queue.release_claims().await.unwrap();
    queue.ack(SHARD, &claimed.receipt).await.unwrap();
    assert_eq!(claim(&*queue, 1, 1_000).await, [a, b], "the receipt outlived its claim");
}

pub async fn a_task_is_claimed_by_one(queue: Arc<dyn Queue>) {
    let tasks: Vec<(TaskId, u8)> = (0..200).map(|index| (task(), (index % 10) as u8)).collect();
    queue.push(SHARD, &tasks, at(0)).await.unwrap();
    let claimers = (0..10).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = queue.claim(SHARD, 7, at(1), at(1_000)).await.unwrap();
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

pub async fn shards_do_not_see_each_other(queue: Arc<dyn Queue>) {
    let (a, b) = (task(), task());
    queue.push(SHARD, &[(a, 5)], at(0)).await.unwrap();
    queue.push("other", &[(b, 5)], at(0)).await.unwrap();
    assert_eq!(claim(&*queue, 0, 10).await, [a]);
    let other = queue.claim("other", 10, at(0), at(10)).await.unwrap().remove(0);
    assert_eq!(other.task, b);
    queue.ack(SHARD, &other.receipt).await.unwrap();
    assert_eq!(queue.len("other").await.unwrap(), 1, "a receipt is good on its own shard only");
    assert_eq!(queue.len("nobody").await.unwrap(), 0);
}

pub async fn a_foreign_receipt_is_refused(queue: Arc<dyn Queue>) {
    for receipt in ["", "1", "x.y", "1.x", "'; DROP TABLE queue; --", "99999999999999999999.1"] {
        assert_eq!(queue.ack(SHARD, receipt).await.unwrap_err().kind, PortErrorKind::Permanent, "{receipt}");
    }
}
