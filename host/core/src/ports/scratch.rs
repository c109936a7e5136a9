//! The port behind ephemeral memory, and its implementation over the truth.
//!
//! It keeps values within an agent's limits and only for whoever holds its task; it knows no guest and no manifest (that is
//! [`super::ScratchPort`]). Called by the ports of a run.

use super::{PortError, Truth};
use crate::change::{Change, Committed, Guard, Write};
use crate::clock::Timestamp;
use crate::ids::{AgentId, LeaseId, TaskId};
use crate::records::ScratchItem;
use async_trait::async_trait;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// The run that wants to change something: what holds its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The task.
    pub task: TaskId,
    /// The lease it is run under.
    pub lease: LeaseId,
    /// The fencing token.
    pub attempt: u32,
}

impl Holder {
    /// Applied only while the run holds its task.
    pub const fn guard(self) -> Guard {
        Guard::LeaseCurrent(self.task, self.lease, self.attempt)
    }
}

/// What became of a write.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScratchWritten {
    /// It is done.
    Done,
    /// There is no room for it; nothing was changed.
    Full,
    /// The run no longer holds its task; nothing was changed.
    Fenced,
}

/// Ephemeral memory of agents: at most [`ScratchItem::MAX_KEYS`] keys and [`ScratchItem::MAX_BYTES`] bytes an agent, each
/// value until its [`ScratchItem::expires_at`].
#[async_trait]
pub trait Scratch: Send + Sync {
    /// The value under a key of an agent, if it is not forgotten.
    async fn get(&self, agent: AgentId, key: &str, now: Timestamp) -> Result<Option<Value>, PortError>;
    /// Keeps a value in the place of what is under its key.
    async fn put(&self, holder: Holder, item: ScratchItem, now: Timestamp) -> Result<ScratchWritten, PortError>;
    /// Forgets a value; no error if there is none.
    async fn delete(
        &self,
        holder: Holder,
        agent: AgentId,
        key: &str,
        now: Timestamp,
    ) -> Result<ScratchWritten, PortError>;
}

/// Ephemeral memory in the truth (`ephemeral_memory`).
#[derive(Clone)]
pub struct TruthScratch(Arc<dyn Truth>);

impl fmt::Debug for TruthScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TruthScratch").finish_non_exhaustive()
    }
}

impl TruthScratch {
    /// In that truth.
    pub fn new(truth: Arc<dyn Truth>) -> Self {
        Self(truth)
    }

    async fn write(&self, holder: Holder, room: Option<Guard>, write: Write) -> Result<ScratchWritten, PortError> {
        let mut change = Change::new();
        change.guard(holder.guard());
        change.guards.extend(room);
        change.write(write);
        Ok(match self.0.commit(change).await? {
            Committed::Applied => ScratchWritten::Done,
            Committed::Stale(Guard::ScratchRoom(..)) => ScratchWritten::Full,
            Committed::Stale(_) => ScratchWritten::Fenced,
        })
    }
}

#[async_trait]
impl Scratch for TruthScratch {
    async fn get(&self, agent: AgentId, key: &str, now: Timestamp) -> Result<Option<Value>, PortError> {
        Ok(self.0.scratch(agent, key, now).await?.map(|item| item.value))
    }

    async fn put(&self, holder: Holder, item: ScratchItem, _: Timestamp) -> Result<ScratchWritten, PortError> {
        let room = Guard::ScratchRoom(item.agent, item.key.clone(), item.size());
        self.write(holder, Some(room), Write::PutScratch(item)).await
    }

    async fn delete(
        &self,
        holder: Holder,
        agent: AgentId,
        key: &str,
        _: Timestamp,
    ) -> Result<ScratchWritten, PortError> {
        self.write(holder, None, Write::DeleteScratch(agent, key.to_owned())).await
    }
}
