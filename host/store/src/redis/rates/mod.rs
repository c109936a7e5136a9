//! The rate limits that all hosts share: the moments of an agent's calls in a list, `rate_limit:<agent>`.
//!
//! The same sliding window as core's ([`chimera_core::rate`]), done by one script: decided and counted at once, by the
//! server's clock. It decides nothing else. Opened by the binary.

use super::link::Redis;
use super::named;
use ::redis::{Pipeline, Script};
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::AgentId;
use chimera_core::ports::{PortError, RateLimits};
use chimera_core::rate::{RateDecision, RateLimit};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Rate limits in Redis; see [`RateLimits`]. It goes by the server's clock. A call whose answer was lost may have been
/// counted.
#[derive(Clone)]
pub struct RedisRateLimits {
    redis: Redis,
    decide: Arc<Script>,
}

impl fmt::Debug for RedisRateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisRateLimits").field(&self.redis).finish()
    }
}

impl RedisRateLimits {
    /// The limits on that server.
    pub fn new(redis: Redis) -> Self {
        Self { redis, decide: Arc::new(Script::new(include_str!("decide.lua"))) }
    }
}

#[async_trait]
impl RateLimits for RedisRateLimits {
    async fn decide(&self, agent: AgentId, limit: RateLimit, _: Timestamp) -> Result<RateDecision, PortError> {
        let mut calls = Pipeline::with_capacity(1);
        let call = calls.cmd("EVALSHA").arg(self.decide.get_hash()).arg(1);
        call.arg(named(self.redis.prefix(), "rate_limit", &agent.to_string()));
        call.arg(limit.calls()).arg(u64::try_from(limit.window().as_millis()).unwrap_or(u64::MAX));
        let (wait,): (i64,) = self.redis.calls(&self.decide, &calls).await?;
        Ok(match u64::try_from(wait) {
            Err(_) => RateDecision::Allowed,
            // Whatever is in the list: nobody waits for longer than a window.
            Ok(wait) => RateDecision::RetryAfter(Duration::from_millis(wait).min(limit.window())),
        })
    }
}
