//! Smaller rows: agents, tokens, memory, scratch, trends.
//!
//! Values only. Called by the store and by the host side of the skill's interfaces.

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{AgentId, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// A planner, worker or judge (a row of `agents`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// For people.
    pub name: String,
    /// What it does.
    #[serde(rename = "type")]
    pub role: AgentRole,
    /// Whether it may act.
    pub status: AgentStatus,
    /// When it last acted.
    pub last_seen: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentRole {
    /// Makes plans.
    Planner,
    /// Does tasks.
    Worker,
    /// Judges outcomes.
    Judge,
}

impl AgentRole {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Worker => "worker",
            Self::Judge => "judge",
        }
    }
}

/// Whether an agent may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// May act.
    Active,
    /// Its tokens are not accepted.
    Disabled,
    /// It was part of a process that was stopped, and takes nothing on.
    Stopped,
}

/// A token that opens the API (a row of `api_tokens`). Only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the token.
    pub hash: Digest,
    /// What it may do.
    pub scope: TokenScope,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "agent")]
pub enum TokenScope {
    /// Everything, as a human.
    Operator,
    /// The three agent endpoints, as this agent.
    Agent(AgentId),
}

/// A remembered text (a row of `agent_memory`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// Its id.
    pub id: Uuid,
    /// Whose memory.
    pub agent: AgentId,
    /// The text.
    pub text: String,
    /// A JSON object.
    pub metadata: Value,
    /// When it was remembered.
    pub created_at: Timestamp,
}

impl MemoryItem {
    /// Most items that one agent remembers; what is older is forgotten.
    pub const MAX_ITEMS: usize = 10_000;
    /// Most bytes of text and metadata that one agent remembers; what is older is forgotten.
    pub const MAX_BYTES: usize = 4 << 20;

    /// The bytes of its text and metadata.
    pub fn size(&self) -> usize {
        self.text.len() + self.metadata.to_string().len()
    }
}

/// A value of ephemeral memory (a row of `ephemeral_memory`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScratchItem {
    /// Whose memory.
    pub agent: AgentId,
    /// Its key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

impl ScratchItem {
    /// How long a value is kept.
    pub const KEPT: Duration = Duration::from_secs(3600);
    /// Most keys of one agent.
    pub const MAX_KEYS: usize = 10_000;
    /// Most bytes of keys and values of one agent.
    pub const MAX_BYTES: usize = 16 << 20;

    /// The bytes of its key and value.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.to_string().len()
    }
}

/// An observation (a row of `content_trends`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendItem {
    /// Its id; the same observation replayed has the same id.
    pub id: Uuid,
    /// Whose observation.
    pub agent: AgentId,
    /// What it is about.
    pub topic: String,
    /// How much.
    pub weight: f64,
    /// Where it was seen.
    pub source: String,
    /// When.
    pub observed_at: Timestamp,
}

impl TrendItem {
    /// The largest weight: however many are added up, the sum is a number.
    pub const MAX_WEIGHT: f64 = 1e9;
    /// Most observations that are kept of one agent; what is older is forgotten.
    pub const MAX_ITEMS: usize = 20_000;
    /// How long an observation is kept.
    pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Is this a weight that an observation may have?
    pub fn is_weight(weight: f64) -> bool {
        (0.0..=Self::MAX_WEIGHT).contains(&weight)
    }
}

/// A topic's strength within a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendTop {
    /// The topic.
    pub topic: String,
    /// Sum of the weights; always finite.
    pub weight: f64,
    /// Number of observations.
    pub count: u64,
}
