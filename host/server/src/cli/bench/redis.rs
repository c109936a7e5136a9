//! What an operation takes on Redis, at ten thousand a second: the part of `chimera bench store` that is not PostgreSQL's.
//!
//! Operations are asked at fixed moments, whether the answers before have come or not, so that a slow one is not left out
//! of what it delays. It works under a prefix of its own and removes that. Called by the benchmark of the store.

use super::Effort;
use super::report::Figure;
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use chimera_core::clock::{Clock as _, SystemClock};
use chimera_core::ids::{AgentId, SystemIds, TaskId};
use chimera_core::ports::{PortError, Queue as _, Queued, RateLimits as _};
use chimera_core::rate::RateLimit;
use chimera_store::{Redis, RedisOptions, RedisQueue, RedisRateLimits};
use futures::future::join_all;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who ask at the same time.
const CALLERS: u32 = 20;
/// Operations a second.
const PER_SECOND: u32 = 10_000;
/// Agents whose calls are counted.
const AGENTS: usize = 100;
const SHARD: &str = "bench";

pub(super) async fn run(url: &str, effort: Effort) -> CliResult<Vec<Figure>> {
    let prefix = format!("bench-{}:", TaskId::new(&SystemIds));
    let redis = Redis::open(RedisOptions { prefix, ..RedisOptions::new(url) })
        .await
        .map_err(|error| CliError::failed(error.to_string(), "name a Redis server that runs with --redis URL"))?;
    let measured = measure(&redis, Duration::from_secs(effort.of(1, 10))).await;
    let removed = redis.remove_all().await;
    let figures = measured.map_err(failed)?;
    removed.map_err(failed)?;
    Ok(figures)
}

fn failed(error: PortError) -> CliError {
    CliError::failed(error.to_string(), "is Redis still there?")
}

async fn measure(redis: &Redis, lasts: Duration) -> Result<Vec<Figure>, PortError> {
    let (queue, rates) = (RedisQueue::new(redis.clone()), RedisRateLimits::new(redis.clone()));
    let (queue, rates) = (Arc::new(queue), Arc::new(rates));
    tell("Redis: pushing");
    let pushed = at_a_rate(lasts, |_| {
        let queue = queue.clone();
        async move { queue.push(SHARD, &[(TaskId::new(&SystemIds), 5)], SystemClock.now()).await }
    });
    let pushed = pushed.await?;
    tell("Redis: claiming");
    let receipts: Arc<Mutex<Vec<Queued>>> = Arc::default();
    let claimed = at_a_rate(lasts, |_| {
        let (queue, receipts) = (queue.clone(), receipts.clone());
        async move {
            let now = SystemClock.now();
            let claimed = queue.claim(SHARD, 1, now, now.plus(Duration::from_secs(60))).await?;
            receipts.lock().unwrap_or_else(PoisonError::into_inner).extend(claimed);
            Ok(())
        }
    });
    let claimed = claimed.await?;
    tell("Redis: acknowledging");
    let acknowledged = at_a_rate(lasts, |_| {
        let queue = queue.clone();
        let queued = receipts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        async move {
            match queued {
                Some(queued) => queue.ack(SHARD, &queued.receipt).await,
                None => Ok(()),
            }
        }
    });
    let acknowledged = acknowledged.await?;
    tell("Redis: counting calls");
    let agents: Vec<AgentId> = (0..AGENTS).map(|_| AgentId::new(&SystemIds)).collect();
    let limit = RateLimit::new(u32::MAX, Duration::from_secs(1));
    let counted = at_a_rate(lasts, |caller| {
        let (rates, agent) = (rates.clone(), agents.get(caller as usize).copied());
        async move {
            match agent {
                Some(agent) => rates.decide(agent, limit, SystemClock.now()).await.map(drop),
                None => Ok(()),
            }
        }
    });
    let counted = counted.await?;
    let of_each = [
        ("redis_push_p99_ms", &pushed),
        ("redis_claim_p99_ms", &claimed),
        ("redis_ack_p99_ms", &acknowledged),
        ("redis_rate_limit_p99_ms", &counted),
    ];
    let all: Vec<Duration> = of_each.iter().flat_map(|(_, took)| took.iter().copied()).collect();
    let slowest_rate = of_each.iter().map(|(_, took)| took.len() as f64 / lasts.as_secs_f64()).fold(f64::MAX, f64::min);
    let mut figures = vec![
        Figure::alone("redis_p99_ms", percentile_99(all), "ms"),
        Figure::alone("redis_operations_per_s", slowest_rate, "1/s"),
    ];
    figures.extend(of_each.map(|(name, took)| Figure::alone(name, percentile_99(took.clone()), "ms")));
    Ok(figures)
}

fn percentile_99(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
    took.get(at).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

/// Asks at fixed moments; how long each took from when it was sent on its way.
async fn at_a_rate<F: Future<Output = Result<(), PortError>> + Send + 'static>(
    lasts: Duration,
    operation: impl Fn(u32) -> F,
) -> Result<Vec<Duration>, PortError> {
    let pause = Duration::from_secs(1) * CALLERS / PER_SECOND;
    let started = Instant::now();
    let callers = (0..CALLERS).map(async |caller| {
        let mut asked = Vec::new();
        for turn in 0.. {
            let moment = started + pause * caller / CALLERS + pause * turn;
            if moment >= started + lasts {
                break;
            }
            tokio::time::sleep_until(moment.into()).await;
            let operation = operation(caller);
            asked.push(tokio::spawn(async move {
                // The timer has ticks of a millisecond, which are not the server's.
                let began = Instant::now();
                operation.await.map(|()| began.elapsed())
            }));
        }
        join_all(asked).await
    });
    let mut took = Vec::new();
    for ended in join_all(callers).await.into_iter().flatten() {
        took.push(ended.map_err(|error| {
            PortError::new(chimera_core::ports::PortErrorKind::Unavailable, format!("the benchmark failed: {error}"))
        })??);
    }
    Ok(took)
}
