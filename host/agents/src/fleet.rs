//! What a process is among others that work on the same truth: its agents, their heartbeat, and the skills that others
//! install.
//!
//! Nothing here leases or runs anything: who may do what to a task is decided by its lease alone, and what is said here
//! of who is alive is for people. Called by the swarm.

use crate::error::AgentError;
use crate::planner::scheduler::{CommitResult, Scheduler, stale};
use chimera_core::change::{Change, Write};
use chimera_core::ids::AgentId;
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{Notice, Truth};
use chimera_core::records::{Agent, AgentRole, AgentStatus};
use chimera_core::skill::SkillName;
use chimera_core::task::Lease;
use chimera_registry::{Registry, Warm};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long what runs may go on when the process is told to stop and others go on without it: within the half minute
/// that a supervisor usually gives.
const DRAIN: Duration = Duration::from_secs(25);
/// How long changes of skills are gathered before they are looked at.
const GATHER: Duration = Duration::from_millis(20);

/// Who else works on the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fleet {
    /// Nobody: this process owns it.
    Alone,
    /// Other processes.
    Shared {
        /// What tells this process's agents from theirs, also when it is started again; 1 to 64 characters.
        node: String,
    },
}

impl Fleet {
    /// How long what runs may go on at the end. Nobody would go on with it if this process is alone.
    pub(crate) fn drain(&self) -> Option<Duration> {
        (*self != Self::Alone).then_some(DRAIN)
    }

    fn name(&self, role: AgentRole, number: usize) -> String {
        match (self, role) {
            (Self::Alone, _) => format!("{}-{number}", role.as_str()),
            (Self::Shared { node }, AgentRole::Worker) => format!("worker-{number}@{node}"),
            (Self::Shared { node }, _) => format!("{}@{node}", role.as_str()),
        }
    }
}

/// The rows of `agents` that are this process's.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    agents: Arc<[Agent]>,
    workers: Arc<[AgentId]>,
}

impl Members {
    /// Makes them, or finds them again: so many workers, and among others a planner and a judge where these are its
    /// roles.
    ///
    /// # Errors
    /// `Unavailable` when the rows cannot be read or written.
    pub(crate) async fn register(
        scheduler: &Scheduler,
        fleet: &Fleet,
        roles: &BTreeSet<AgentRole>,
        workers: usize,
    ) -> Result<Self, AgentError> {
        let known = scheduler.truth().agents().await?;
        let now = scheduler.clock().now();
        let mut wanted: Vec<(AgentRole, String)> =
            (1..=workers).map(|number| (AgentRole::Worker, fleet.name(AgentRole::Worker, number))).collect();
        if *fleet != Fleet::Alone {
            let others = roles.iter().filter(|role| **role != AgentRole::Worker);
            wanted.extend(others.map(|role| (*role, fleet.name(*role, 1))));
        }
        let agents: Vec<Agent> = wanted
            .into_iter()
            .map(|(role, name)| {
                let found = known.iter().find(|agent| agent.role == role && agent.name == name);
                let id = found.map_or_else(|| AgentId::new(scheduler.ids().as_ref()), |agent| agent.id);
                let created_at = found.map_or(now, |agent| agent.created_at);
                Agent { id, name, role, status: AgentStatus::Active, last_seen: now, created_at }
            })
            .collect();
        put(scheduler, &agents).await?;
        let workers = agents.iter().filter(|agent| agent.role == AgentRole::Worker).map(|agent| agent.id).collect();
        Ok(Self { agents: agents.into(), workers })
    }

    /// The ids of its workers.
    pub(crate) fn workers(&self) -> &[AgentId] {
        &self.workers
    }

    /// Says that they are alive, until it is told to stop.
    pub(crate) async fn beat(&self, scheduler: &Scheduler, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Lease::HEARTBEAT) => {}
            }
            let now = scheduler.clock().now();
            let mut seen = Change::new().with_next();
            self.agents.iter().for_each(|agent| seen.write(Write::TouchAgent(agent.id, now)));
            if let Err(error) = scheduler.commit(seen).await {
                tracing::warn!(%error, "the agents of this process could not be marked as alive");
            }
        }
    }

    /// Marks them as stopped, if there are others who look.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn leave(&self, scheduler: &Scheduler, fleet: &Fleet) -> Result<(), AgentError> {
        if *fleet == Fleet::Alone {
            return Ok(());
        }
        let last_seen = scheduler.clock().now();
        let stopped = |agent: &Agent| Agent { status: AgentStatus::Stopped, last_seen, ..agent.clone() };
        put(scheduler, &self.agents.iter().map(stopped).collect::<Vec<_>>()).await
    }
}

async fn put(scheduler: &Scheduler, agents: &[Agent]) -> Result<(), AgentError> {
    let mut change = Change::new();
    agents.iter().for_each(|agent| change.write(Write::PutAgent(agent.clone())));
    match scheduler.commit(change).await? {
        CommitResult::Applied => Ok(()),
        CommitResult::Stale(guard) => Err(stale(&guard)),
    }
}

/// Keeps the index in step with what other processes install, and has the code of it compiled before it is needed.
pub(crate) async fn follow_skills(truth: Arc<dyn Truth>, registry: Arc<Registry>, warm: Warm, stop: CancellationToken) {
    let mut listener = truth.subscribe();
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = listener.next() => heard,
        };
        if heard == Heard::Closed {
            return;
        }
        let mut changed: BTreeSet<Option<SkillName>> = skills_in(heard).into_iter().collect();
        if changed.is_empty() {
            continue;
        }
        // One installation is several changes.
        let until = tokio::time::Instant::now() + GATHER;
        while let Ok(heard) = tokio::time::timeout_at(until, listener.next()).await
            && heard != Heard::Closed
        {
            changed.extend(skills_in(heard));
        }
        // No name stands for all of them.
        let names: Vec<Option<&SkillName>> =
            if changed.contains(&None) { vec![None] } else { changed.iter().map(Option::as_ref).collect() };
        for name in names {
            let followed = tokio::select! {
                () = stop.cancelled() => return,
                followed = registry.follow(name, warm) => followed,
            };
            if let Err(error) = followed {
                tracing::warn!(%error, "what another process changed of the skills is not indexed yet");
            }
        }
    }
}

/// The skill that is told of; none in it for all of them.
fn skills_in(heard: Heard) -> Option<Option<SkillName>> {
    match heard {
        Heard::Notice(Notice::Skills(name)) => Some(name),
        Heard::Missed => Some(None),
        Heard::Notice(_) | Heard::Closed => None,
    }
}
