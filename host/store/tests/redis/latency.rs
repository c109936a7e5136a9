//! What an operation takes on a server next door, at ten thousand a second. Run by hand, because a busy machine proves nothing:
//! `cargo test --release -p chimera-store --test redis -- --ignored --nocapture latency`.

use crate::Keys;
use chimera_core::clock::{Clock as _, SystemClock};
use chimera_core::ids::*;
use chimera_core::ports::{Queue, RateLimits};
use chimera_core::rate::RateLimit;
use chimera_store::{RedisQueue, RedisRateLimits};
use futures::future::join_all;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CALLERS: u32 = 20;
const PER_SECOND: u32 = 10_000;
const LASTS: Duration = Duration::from_secs(5);
const SHARD: &str = "main";

/// Asks at fixed moments, whether the answer before has come or not; how long each took from its moment on.
async fn at_a_rate<F: Future<Output = ()> + Send + 'static>(operation: impl Fn(u32) -> F) -> Vec<Duration> {
    let pause = Duration::from_secs(1) * CALLERS / PER_SECOND;
    let started = Instant::now();
    let callers = (0..CALLERS).map(async |caller| {
        let mut asked = Vec::new();
        let mut turn = 0;
        loop {
            let moment = started + pause * caller / CALLERS + pause * turn;
            if moment >= started + LASTS {
                break;
            }
            tokio::time::sleep_until(moment.into()).await;
            let operation = operation(caller);
            asked.push(tokio::spawn(async move {
                // The timer has ticks of a millisecond, which are not the server's.
                let began = Instant::now();
                operation.await;
                began.elapsed()
            }));
            turn += 1;
        }
        join_all(asked).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    });
    let mut took: Vec<Duration> = join_all(callers).await.into_iter().flatten().collect();
    took.sort();
    took
}

fn tell(what: &str, took: &[Duration]) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let rate = took.len() as f64 / LASTS.as_secs_f64();
    println!(
        "{what}: {rate:.0}/s, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn latency() {
    let keys = Keys::new();
    let redis = keys.redis().await;
    let (queue, rates) = (Arc::new(RedisQueue::new(redis.clone())), Arc::new(RedisRateLimits::new(redis.clone())));
    tell(
        "ping",
        &at_a_rate(|_| {
            let redis = redis.clone();
            async move { redis.ping().await.unwrap() }
        })
        .await,
    );
    tell(
        "push of one",
        &at_a_rate(|_| {
            let queue = queue.clone();
            async move { queue.push(SHARD, &[(TaskId::new(&SystemIds), 5)], SystemClock.now()).await.unwrap() }
        })
        .await,
    );
    let receipts = Arc::new(std::sync::Mutex::new(Vec::new()));
    tell(
        "claim of one",
        &at_a_rate(|_| {
            let (queue, receipts) = (queue.clone(), receipts.clone());
            async move {
                let now = SystemClock.now();
                let claimed = queue.claim(SHARD, 1, now, now.plus(Duration::from_secs(60))).await.unwrap();
                receipts.lock().unwrap().extend(claimed);
            }
        })
        .await,
    );
    tell(
        "ack",
        &at_a_rate(|_| {
            let (queue, queued) = (queue.clone(), receipts.lock().unwrap().pop().expect("claimed"));
            async move { queue.ack(SHARD, &queued.receipt).await.unwrap() }
        })
        .await,
    );
    let agents: Vec<AgentId> = (0..100).map(|_| AgentId::new(&SystemIds)).collect();
    tell(
        "rate limit",
        &at_a_rate(|caller| {
            let (rates, agent) = (rates.clone(), agents[caller as usize]);
            async move {
                let _ = rates
                    .decide(agent, RateLimit::new(1_000, Duration::from_secs(1)), SystemClock.now())
                    .await
                    .unwrap();
            }
        })
        .await,
    );
    let started = Instant::now();
    for _ in 0..100 {
        let tasks: Vec<(TaskId, u8)> = (0..1_000).map(|_| (TaskId::new(&SystemIds), 5)).collect();
        queue.push(SHARD, &tasks, SystemClock.now()).await.unwrap();
    }
    println!("push of 1,000: {:?} each", started.elapsed() / 100);
}
