//! Leases that are written with the report: most runs are over before anybody could have asked who has the task.
//!
//! A run of a skill that declares no capability leaves no trace but its report, so until then the truth need not know of its
//! lease: the claim on the queue keeps others away, and should two run the task all the same, only one report fits what
//! the truth says. What would leave a trace earlier, or takes longer than a moment, writes the lease first. A task that
//! was there before this process is leased at once, so that one on which the host dies is counted and not tried for ever.
//! It decides nothing about tasks. Called by the pool, the executor and the reporter.

use super::executor::Executed;
use crate::error::{AgentError, AgentErrorKind};
use crate::planner::scheduler::{Scheduler, stale};
use async_trait::async_trait;
use chimera_core::change::{Change, Committed};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::LeaseId;
use chimera_core::journal::JournalEntry;
use chimera_core::manifest::Capabilities;
use chimera_core::ports::{Journal, PortError, PortErrorKind, Queued};
use chimera_core::task::{Task, TaskSpec};
use chimera_sandbox::RunEnd;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a run may take before its lease is written.
pub(crate) const MOMENT: Duration = Duration::from_millis(250);
/// A run that took longer says that the next one may take longer than a [`MOMENT`]: milliseconds.
const BRIEF_MS: u64 = 125;
/// Most versions that are known to be brief.
const MOST_KNOWN: usize = 4096;

/// Which versions run on a lease that is not written yet: those whose last run here was good and brief, and that can leave
/// no trace.
#[derive(Debug)]
pub(crate) struct BriefRuns {
    /// Since when this process takes tasks.
    since: Timestamp,
    known: Mutex<HashSet<Digest>>,
}

impl BriefRuns {
    /// None is known.
    pub(crate) fn since(since: Timestamp) -> Self {
        Self { since, known: Mutex::default() }
    }

    /// May the task's lease be written with its report?
    pub(crate) fn may_defer(&self, task: &Task, spec: &TaskSpec) -> bool {
        task.attempt == 0
            && task.created_at >= self.since
            && task.deadline.is_none()
            && self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&spec.skill.digest)
    }

    /// Learns from a run that is over.
    pub(crate) fn learn(&self, executed: &Executed) {
        let is_brief = matches!(executed.end, RunEnd::Finished(_))
            && executed.usage.wall_ms <= BRIEF_MS
            && executed.manifest.as_ref().is_some_and(|manifest| manifest.capabilities == Capabilities::default());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_brief {
            known.remove(&executed.skill.digest);
        } else if !known.contains(&executed.skill.digest) {
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(executed.skill.digest);
        }
    }
}

/// The lease of a run, and whether the truth knows of it.
pub struct DeferredLease {
    scheduler: Scheduler,
    /// Acknowledged once the truth knows.
    item: Queued,
    lease: LeaseId,
    state: tokio::sync::Mutex<State>,
}

enum State {
    Unwritten(Change),
    Written,
    /// The task is somebody else's, or nobody's any more.
    Lost,
}

impl std::fmt::Debug for DeferredLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeferredLease")
            .field("task", &self.item.task)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl DeferredLease {
    /// A lease that `change` would write.
    pub(crate) fn new(scheduler: Scheduler, item: Queued, lease: LeaseId, change: Change) -> Self {
        Self { scheduler, item, lease, state: tokio::sync::Mutex::new(State::Unwritten(change)) }
    }

    /// Has the truth know of it, if it does not yet.
    ///
    /// # Errors
    /// `Conflict` when the task is not to be had any more: drop the run. `Unavailable`.
    pub(crate) async fn write(&self) -> Result<(), AgentError> {
        let mut state = self.state.lock().await;
        let change = match &*state {
            State::Written => return Ok(()),
            State::Lost => return Err(self.lost()),
            State::Unwritten(change) => change.clone(),
        };
        if let Committed::Stale(guard) = self.scheduler.truth().commit(change).await?
            && !self.is_ours().await?
        {
            *state = State::Lost;
            return Err(stale(&guard));
        }
        *state = State::Written;
        drop(state);
        self.scheduler.ack(&self.item).await;
        Ok(())
    }

    /// What has to go with the report; none when the truth knows.
    ///
    /// # Errors
    /// `Conflict` when the task is not to be had any more.
    pub(crate) async fn unwritten(&self) -> Result<Option<Change>, AgentError> {
        match &*self.state.lock().await {
            State::Unwritten(change) => Ok(Some(change.clone())),
            State::Written => Ok(None),
            State::Lost => Err(self.lost()),
        }
    }

    /// It was written with the report.
    pub(crate) async fn reported(&self) {
        *self.state.lock().await = State::Written;
        self.scheduler.ack(&self.item).await;
    }

    /// A write whose answer nobody waited for may have been done.
    async fn is_ours(&self) -> Result<bool, AgentError> {
        match self.scheduler.task(self.item.task).await {
            Ok(task) => Ok(task.lease.is_some_and(|lease| lease.id == self.lease)),
            Err(error) if error.kind() == AgentErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lost(&self) -> AgentError {
        AgentError::Conflict(format!("task {} is not this run's any more", self.item.task))
    }
}

/// A journal that begins with the lease: its entries are guarded by it.
pub(crate) struct LeaseFirst {
    pub(crate) lease: Arc<DeferredLease>,
    pub(crate) journal: Arc<dyn Journal>,
}

#[async_trait]
impl Journal for LeaseFirst {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        self.journal.load().await
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        match self.lease.write().await {
            Ok(()) => self.journal.append(entries).await,
            Err(error) if error.kind() == AgentErrorKind::Unavailable => {
                Err(PortError::new(PortErrorKind::Unavailable, error.to_string()))
            }
            Err(error) => Err(PortError::new(PortErrorKind::Closed, error.to_string())),
        }
    }
}

#[cfg(test)]
#[path = "deferred_tests.rs"]
mod tests;
