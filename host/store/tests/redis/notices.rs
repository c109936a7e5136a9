//! Notices between processes: heard by the others, by nobody else, and never waited for.

use crate::Keys;
use crate::contract::fixtures::draft;
use chimera_core::audit::{AuditDraft, link};
use chimera_core::change::OutboxTopic;
use chimera_core::digest::Digest;
use chimera_core::ids::*;
use chimera_core::ports::Notice;
use chimera_core::ports::listen::{self, Heard};
use chimera_store::{Redis, RedisNotices, RedisOptions};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PLAN: Notice = Notice::Outbox(OutboxTopic::Plan);
const JUDGE: Notice = Notice::Outbox(OutboxTopic::Judge);

pub async fn next(listener: &mut listen::Receiver) -> Heard {
    tokio::time::timeout(Duration::from_secs(10), listener.next()).await.expect("nothing is heard")
}

async fn nothing(listener: &mut listen::Receiver) {
    let heard = tokio::time::timeout(Duration::from_millis(200), listener.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// Two processes that hear each other already.
pub async fn two(redis: impl AsyncFn() -> Redis) -> [RedisNotices; 2] {
    let both = [RedisNotices::start(redis().await), RedisNotices::start(redis().await)];
    let started = Instant::now();
    for (sender, receiver) in [(&both[0], &both[1]), (&both[1], &both[0])] {
        while receiver.stats().heard == 0 {
            assert!(started.elapsed() < Duration::from_secs(10), "they do not hear each other");
            sender.publish(PLAN);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    both
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_hear_what_is_told_and_the_teller_does_not() {
    let keys = Keys::new();
    let [a, b] = two(async || keys.redis().await).await;
    let (mut at_a, mut at_b) = (a.listen(), b.listen());
    let progress =
        Notice::Progress { campaign: None, task: TaskId::new(&SystemIds), fraction: 0.25, message: "é\u{1b}".into() };
    for notice in [JUDGE, progress] {
        a.publish(notice.clone());
        assert_eq!(next(&mut at_b).await, Heard::Notice(notice));
    }
    nothing(&mut at_a).await;
    b.publish(PLAN);
    assert_eq!(next(&mut at_a).await, Heard::Notice(PLAN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_notice_that_is_too_large_the_others_hear_that_they_missed_one() {
    let keys = Keys::new();
    let [a, b] = two(async || keys.redis().await).await;
    let mut at_b = b.listen();
    let event = |text: String| {
        let draft = AuditDraft { detail: json!({ "text": text }), ..draft(None, "test.happened") };
        Notice::Audited(Arc::new(link(1, Digest::of(b""), draft)))
    };
    a.publish(event("x".repeat(70_000)));
    assert_eq!(next(&mut at_b).await, Heard::Missed);
    let small = event("x".repeat(50_000));
    a.publish(small.clone());
    assert_eq!(next(&mut at_b).await, Heard::Notice(small));
    assert_eq!(a.stats().dropped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_notice_are_passed_over() {
    let keys = Keys::new();
    let [a, b] = two(async || keys.redis().await).await;
    let mut at_b = b.listen();
    let mut db = redis::Client::open(crate::server()).unwrap().get_connection().unwrap();
    let channel = format!("{}chimera:notices", keys.prefix);
    for bytes in [&b""[..], b"\xff\xfe", b"{\"from\":1}", &[b'['; 10_000], &[b' '; 1_000_000]] {
        let listeners: u64 = redis::cmd("PUBLISH").arg(&channel).arg(bytes).query(&mut db).unwrap();
        assert_eq!(listeners, 2);
    }
    a.publish(JUDGE);
    assert_eq!(next(&mut at_b).await, Heard::Notice(JUDGE));
    assert_eq!(b.stats().refused, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_telling_costs_nothing_and_waits_for_nobody() {
    let alone = RedisNotices::start(Redis::lazy(RedisOptions::new("redis://127.0.0.1:1")).unwrap());
    let started = Instant::now();
    for _ in 0..100_000 {
        alone.publish(PLAN);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(alone.stats().dropped > 90_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joined_listener_hears_this_process_and_the_others() {
    let keys = Keys::new();
    let [a, b] = two(async || keys.redis().await).await;
    let mut both = b.join(a.listen());
    b.publish(PLAN);
    assert_eq!(next(&mut both).await, Heard::Notice(PLAN), "what the first one hears stands for its own");
    a.publish(JUDGE);
    assert_eq!(next(&mut both).await, Heard::Notice(JUDGE));
    drop(a);
    assert_eq!(next(&mut both).await, Heard::Closed);
}
