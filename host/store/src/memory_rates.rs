//! The rate limits of a process that is alone: in memory.
//!
//! It forgets them with the process, and knows nothing of what other processes let through. Opened by the binary.

use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::AgentId;
use chimera_core::ports::{PortError, RateLimits};
use chimera_core::rate::{RateDecision, RateLimit, SlidingWindow};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// From so many agents on, those that have not called for a window are forgotten before another one is added.
const MANY_AGENTS: usize = 10_000;

/// Rate limits in memory; see [`RateLimits`]. It goes by the moments that it is told.
#[derive(Debug, Default)]
pub struct MemoryRateLimits {
    windows: Mutex<HashMap<AgentId, SlidingWindow>>,
}

impl MemoryRateLimits {
    /// Nobody has called yet.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl RateLimits for MemoryRateLimits {
    async fn decide(&self, agent: AgentId, limit: RateLimit, now: Timestamp) -> Result<RateDecision, PortError> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MANY_AGENTS && !windows.contains_key(&agent) {
            windows.retain(|_, window| !window.is_over(now));
        }
        Ok(windows.entry(agent).or_default().decide(limit, now))
    }
}
