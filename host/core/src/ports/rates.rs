//! The port that counts the calls of agents.

use super::PortError;
use crate::clock::Timestamp;
use crate::ids::AgentId;
use crate::rate::{RateDecision, RateLimit};
use async_trait::async_trait;

/// Counts the calls of agents. Implemented by `store`: in memory for one process, in Redis for many.
#[async_trait]
pub trait RateLimits: Send + Sync {
    /// May this agent make a call now? What is allowed is counted. An implementation may go by a clock of its own instead of
    /// `now`.
    ///
    /// # Errors
    /// `Unavailable`: whether the call may be made all the same is the caller's to say.
    async fn decide(&self, agent: AgentId, limit: RateLimit, now: Timestamp) -> Result<RateDecision, PortError>;
}
