//! What a running guest may reach of the host: memory, scratch, trends, secrets, progress and the journal, each for one
//! run only.
//!
//! Every write is a change guarded by the run's lease, so a run that was fenced off writes nothing, and every id is
//! derived from the run and the call's number, so a call repeated after a crash writes once. No port looks beyond its own
//! agent: memory belongs to a skill's name. Made by the executor for each run.

use async_trait::async_trait;
use chimera_core::change::{Change, Committed, Write};
use chimera_core::clock::Clock;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::{AgentId, CampaignId, LeaseId, TaskId};
use chimera_core::journal::JournalEntry;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{
    Holder, HostError, Journal, LogLevel, MemoryHit, MemoryIndex, MemoryPort, Notice, PortError, PortErrorKind,
    ProgressPort, Scratch, ScratchPort, ScratchWritten, SecretsPort, TrendsPort, Truth,
};
use chimera_core::records::{MemoryItem, ScratchItem, TrendItem, TrendTop};
use chimera_core::skill::SkillName;
use chimera_core::text::{printable, truncated};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Longest remembered text and largest scratch value in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest scratch key, topic and source in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Most items of one recall.
pub const MAX_RECALL: u32 = 50;
/// Most topics of one answer.
pub const MAX_TRENDS: u32 = 100;

/// The agent whose memory a skill sees: derived from the skill's name, so that all its versions share it and no other
/// skill does.
pub fn agent_of(skill: &SkillName) -> AgentId {
    AgentId::from_uuid(derived_uuid(&format!("skill:{skill}")))
}

fn derived_uuid(text: &str) -> Uuid {
    let digest = Digest::of(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The run that the ports serve.
#[derive(Debug, Clone)]
pub struct RunIdentity {
    /// The task.
    pub task: TaskId,
    /// Its campaign.
    pub campaign: Option<CampaignId>,
    /// The lease it runs under.
    pub lease: LeaseId,
    /// The fencing token.
    pub attempt: u32,
    /// The journal's epoch.
    pub epoch: u32,
    /// The agent whose memory it sees.
    pub agent: AgentId,
    /// Which call within which call: empty for the task's own skill.
    pub path: String,
}

impl RunIdentity {
    fn holder(&self) -> Holder {
        Holder { task: self.task, lease: self.lease, attempt: self.attempt }
    }

    /// The same call of the same run has the same id, whenever it is made.
    fn call_id(&self, what: &str, ordinal: u32) -> Uuid {
        derived_uuid(&format!("{what}:{}:{}:{}{ordinal}", self.task, self.epoch, self.path))
    }
}

/// The ports of one run over the truth.
#[derive(Clone)]
pub struct TruthPorts {
    /// The run.
    pub run: RunIdentity,
    /// The truth.
    pub truth: Arc<dyn Truth>,
    /// The index of memory.
    pub memory: Arc<dyn MemoryIndex>,
    /// Ephemeral memory, which need not be in the truth.
    pub scratch: Arc<dyn Scratch>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for TruthPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TruthPorts").field("run", &self.run).finish_non_exhaustive()
    }
}

impl TruthPorts {
    async fn write(&self, write: Write) -> Result<(), HostError> {
        let mut change = Change::new();
        change.guard(self.run.holder().guard());
        change.write(write);
        match self.truth.commit(change).await? {
            Committed::Applied => Ok(()),
            Committed::Stale(_) => Err(fenced()),
        }
    }
}

fn fenced() -> HostError {
    Failure::new(FailureKind::Transient, codes::LEASE_EXPIRED, "the run no longer holds its task").into()
}

fn scratch_written(written: ScratchWritten) -> Result<(), HostError> {
    match written {
        ScratchWritten::Done => Ok(()),
        ScratchWritten::Full => Err(scratch_full()),
        ScratchWritten::Fenced => Err(fenced()),
    }
}

fn too_large(what: &str, found: usize, most: usize) -> HostError {
    Failure::new(FailureKind::InvalidInput, codes::PAYLOAD_SIZE, format!("{what} is {found} bytes; at most {most}"))
        .into()
}

fn not_usable(message: &str) -> HostError {
    Failure::new(FailureKind::InvalidInput, codes::ARGUMENT_INVALID, message).into()
}

/// Permanent: what a skill keeps does not become less within a retry's time.
fn scratch_full() -> HostError {
    let (keys, mib) = (ScratchItem::MAX_KEYS, ScratchItem::MAX_BYTES >> 20);
    let message = format!(
        "the skill's scratch is full ({keys} keys or {mib} MiB): delete keys, or wait until they are forgotten, an hour \
         after they were put"
    );
    Failure::new(FailureKind::Permanent, codes::SCRATCH_FULL, message).into()
}

#[async_trait]
impl MemoryPort for TruthPorts {
    async fn remember(&self, ordinal: u32, text: &str, metadata: Value) -> Result<String, HostError> {
        if text.len() > MAX_VALUE_BYTES {
            return Err(too_large("the text", text.len(), MAX_VALUE_BYTES));
        }
        let size = metadata.to_string().len();
        if !metadata.is_object() || size > MAX_VALUE_BYTES {
            return Err(not_usable("metadata must be a JSON object of at most 64 KiB"));
        }
        let item = MemoryItem {
            id: self.run.call_id("memory", ordinal),
            agent: self.run.agent,
            text: text.to_owned(),
            metadata,
            created_at: self.clock.now(),
        };
        self.write(Write::PutMemory(item.clone())).await?;
        if let Err(error) = self.memory.put(&item).await {
            tracing::warn!(%error, "a memory is kept but cannot be found until the index is rebuilt");
        }
        Ok(item.id.to_string())
    }

    async fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryHit>, HostError> {
        let limit = limit.min(MAX_RECALL) as usize;
        Ok(self.memory.search(self.run.agent, query, limit).await?)
    }

    async fn forget(&self, id: &str) -> Result<(), HostError> {
        // No item has an id of another form.
        let Ok(id) = Uuid::try_parse(id) else { return Ok(()) };
        self.write(Write::DeleteMemory(self.run.agent, id)).await?;
        if let Err(error) = self.memory.forget(self.run.agent, id).await {
            tracing::warn!(%error, "a memory is forgotten but is found until the index is rebuilt");
        }
        Ok(())
    }
}

#[async_trait]
impl ScratchPort for TruthPorts {
    async fn get(&self, key: &str) -> Result<Option<Value>, HostError> {
        check_key(key)?;
        Ok(self.scratch.get(self.run.agent, key, self.clock.now()).await?)
    }

    async fn put(&self, key: &str, value: Value) -> Result<(), HostError> {
        check_key(key)?;
        let size = value.to_string().len();
        if size > MAX_VALUE_BYTES {
            return Err(too_large("the value", size, MAX_VALUE_BYTES));
        }
        let now = self.clock.now();
        let expires_at = now.plus(ScratchItem::KEPT);
        let item = ScratchItem { agent: self.run.agent, key: key.to_owned(), value, expires_at };
        scratch_written(self.scratch.put(self.run.holder(), item, now).await?)
    }

    async fn delete(&self, key: &str) -> Result<(), HostError> {
        check_key(key)?;
        scratch_written(self.scratch.delete(self.run.holder(), self.run.agent, key, self.clock.now()).await?)
    }
}

fn check_key(key: &str) -> Result<(), HostError> {
    match key.len() {
        0 => Err(not_usable("a key must not be empty")),
        length if length > MAX_KEY_BYTES => Err(too_large("the key", length, MAX_KEY_BYTES)),
        _ => Ok(()),
    }
}

#[async_trait]
impl TrendsPort for TruthPorts {
    async fn observe(&self, ordinal: u32, topic: &str, weight: f64, source: &str) -> Result<(), HostError> {
        if topic.trim().is_empty() || topic.len() > MAX_KEY_BYTES || source.len() > MAX_KEY_BYTES {
            return Err(not_usable("topic must be 1 to 256 bytes and source at most 256"));
        }
        if !TrendItem::is_weight(weight) {
            return Err(not_usable("weight must be 0 to 1e9"));
        }
        let item = TrendItem {
            id: self.run.call_id("trend", ordinal),
            agent: self.run.agent,
            topic: topic.to_owned(),
            weight,
            source: source.to_owned(),
            observed_at: self.clock.now(),
        };
        self.write(Write::AddTrend(item)).await
    }

    async fn top(&self, window: Duration, limit: u32) -> Result<Vec<TrendTop>, HostError> {
        let span = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let since = chimera_core::clock::Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(span));
        Ok(self.truth.top_trends(since, limit.min(MAX_TRENDS)).await?)
    }
}

impl ProgressPort for TruthPorts {
    fn report(&self, fraction: f64, message: &str) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let message = truncated(printable(message), MAX_KEY_BYTES);
        self.truth.tell(Notice::Progress { campaign: self.run.campaign, task: self.run.task, fraction, message });
    }

    fn log(&self, level: LogLevel, message: &str) {
        let message = truncated(printable(message), 4096);
        match level {
            LogLevel::Debug | LogLevel::Info => tracing::debug!(task = %self.run.task, guest = message),
            LogLevel::Warn | LogLevel::Error => tracing::info!(task = %self.run.task, guest = message),
        }
    }
}

#[async_trait]
impl Journal for TruthPorts {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        // Entries are written under a lease only, and before the first one there was none.
        if self.run.attempt <= 1 {
            return Ok(Vec::new());
        }
        self.truth.journal(self.run.task, self.run.epoch).await
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        let mut change = Change::new();
        change.guard(self.run.holder().guard());
        change.write(Write::AppendJournal { task: self.run.task, epoch: self.run.epoch, entries });
        match self.truth.commit(change).await? {
            Committed::Applied => Ok(()),
            Committed::Stale(_) => Err(PortError::new(PortErrorKind::Closed, "the run no longer holds its task")),
        }
    }
}

/// The secrets that a manifest declares and the operator configured.
pub struct DeclaredSecrets {
    /// What the skill may ask about.
    pub manifest: Arc<Manifest>,
    /// What is configured.
    pub configured: Arc<dyn SecretsPort>,
}

impl std::fmt::Debug for DeclaredSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeclaredSecrets").field("declared", &self.manifest.capabilities.secrets).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretsPort for DeclaredSecrets {
    async fn exists(&self, name: &str) -> bool {
        self.manifest.capabilities.secrets.contains(name) && self.configured.exists(name).await
    }
}

/// A guest's failure inside a call of another skill, as the caller is told it.
pub(crate) fn callee_failed(name: &SkillName, failure: Failure) -> Failure {
    let message = format!("skill {name}: {}", failure.message);
    Failure { message: truncated(message, Failure::MAX_MESSAGE), ..failure }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
