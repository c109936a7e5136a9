//! The swarm: what one process has of planner, workers and judge, started and stopped together.
//!
//! It wires the rooms it is given and keeps their loops alive; it decides nothing. Every loop may be killed at any moment
//! and starts where the truth says; on a truth that others share, theirs and ours do the same work side by side. Called
//! by the server and the demo.

use crate::error::AgentError;
use crate::fleet::{Fleet, Members};
use crate::judge::Judge;
use crate::judge::hitl::Hitl;
use crate::planner::decomposer::Decomposer;
use crate::planner::scheduler::{Leases, Scheduler, SchedulerDeps, Verdicts};
use crate::runner::{self, Turn};
use crate::worker::executor::{Executor, ExecutorDeps};
use crate::worker::pool::Pool;
use chimera_core::clock::Clock;
use chimera_core::ids::{AgentId, IdSource};
use chimera_core::ports::{McpGateway, MemoryIndex, Queue, Scratch, SecretsPort, SkillIndex, Truth};
use chimera_core::records::AgentRole;
use chimera_registry::{Registry, Warm};
use chimera_sandbox::Sandbox;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a loop waits for a wake-up before it looks by itself.
const POLL: Duration = Duration::from_millis(500);
/// How often leases, retries and deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// How often queued tasks are put on the queue again.
const REDRIVE: Duration = Duration::from_secs(10);
/// How often code is looked for to which no new work is sent: it must be gone within a second of its last task.
const UNLOAD: Duration = Duration::from_millis(200);

/// What a swarm works with.
#[derive(Clone)]
pub struct SwarmDeps {
    /// The truth.
    pub truth: Arc<dyn Truth>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Where skills come from.
    pub registry: Arc<Registry>,
    /// Where they run.
    pub sandbox: Sandbox,
    /// What opens the outside world for a run.
    pub gateway: Arc<dyn McpGateway>,
    /// The index of skills.
    pub skill_index: Arc<dyn SkillIndex>,
    /// The index of agents' memory, already filled.
    pub memory_index: Arc<dyn MemoryIndex>,
    /// Ephemeral memory.
    pub scratch: Arc<dyn Scratch>,
    /// Which secrets are configured; [`chimera_core::ports::Deny`] when none are.
    pub secrets: Arc<dyn SecretsPort>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where new ids come from.
    pub ids: Arc<dyn IdSource>,
    /// How many tasks run at once, 1 to [`crate::worker::pool::MAX_WORKERS`].
    pub workers: usize,
    /// The shard.
    pub planner_id: String,
    /// Which of the agents run here.
    pub roles: BTreeSet<AgentRole>,
    /// Who else works on this truth.
    pub fleet: Fleet,
}

/// Starts swarms.
#[derive(Debug)]
pub struct Swarm;

/// A running swarm.
#[derive(Debug)]
pub struct SwarmHandle {
    scheduler: Scheduler,
    judge: Judge,
    hitl: Hitl,
    pool: Option<Pool>,
    members: Members,
    fleet: Fleet,
    /// Nothing new is taken on.
    draining: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
    loops: TaskTracker,
}

impl Swarm {
    /// Recovers what a killed process left, then starts the loops of its roles.
    ///
    /// # Errors
    /// `Unavailable` when truth or queue cannot be read.
    pub async fn start(deps: SwarmDeps) -> Result<SwarmHandle, AgentError> {
        let works = deps.roles.contains(&AgentRole::Worker);
        let verdicts = if deps.roles.contains(&AgentRole::Judge) { Verdicts::WithReport } else { Verdicts::Apart };
        let parts = SchedulerDeps {
            truth: deps.truth.clone(),
            queue: deps.queue,
            clock: deps.clock.clone(),
            ids: deps.ids,
            decomposer: Decomposer::new(deps.truth.clone(), deps.skill_index),
            planner_id: deps.planner_id,
            leases: if deps.fleet == Fleet::Alone { Leases::Here } else { Leases::Anywhere },
        };
        let scheduler = Scheduler::with_verdicts(parts, verdicts);
        let executor = Executor::new(ExecutorDeps {
            truth: deps.truth,
            registry: deps.registry.clone(),
            sandbox: deps.sandbox,
            gateway: deps.gateway,
            memory: deps.memory_index,
            scratch: deps.scratch,
            secrets: deps.secrets,
            clock: deps.clock,
        });
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let workers = if works { deps.workers } else { 0 };
        let members = Members::register(&scheduler, &deps.fleet, &deps.roles, workers).await?;
        let pool =
            works.then(|| Pool::open(scheduler.clone(), executor, members.workers(), draining.clone(), stop.clone()));
        scheduler.recover(&members.workers().iter().copied().collect(), &deps.fleet, &deps.roles).await?;
        let judge = Judge::new(scheduler.clone());
        let hitl = Hitl::new(scheduler.clone(), deps.registry.clone());
        let (fleet, loops) = (deps.fleet, TaskTracker::new());
        let handle = SwarmHandle { scheduler, judge, hitl, pool, members, fleet, draining, stop, loops };
        handle.start_loops(&deps.roles, deps.registry);
        Ok(handle)
    }
}

impl SwarmHandle {
    /// What campaigns are made with and tasks are moved by.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// What evaluates tasks.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What takes human answers.
    pub fn hitl(&self) -> &Hitl {
        &self.hitl
    }

    /// The ids of the host's own workers.
    pub fn workers(&self) -> BTreeSet<AgentId> {
        self.members.workers().iter().copied().collect()
    }

    /// Stops taking work, waits for what runs if others go on without this process, drops what still runs then, waits for
    /// the loops, and gives the leases back: it is queued and taken up by others or at the next start.
    pub async fn shutdown(self) {
        self.draining.cancel();
        if let (Some(pool), Some(drain)) = (&self.pool, self.fleet.drain())
            && tokio::time::timeout(drain, pool.runs_to_end()).await.is_err()
        {
            tracing::warn!("some tasks were still running after {drain:?}; they are given back");
        }
        self.stop.cancel();
        self.loops.close();
        self.loops.wait().await;
        if let Err(error) = self.scheduler.give_back(&self.workers()).await {
            tracing::warn!(%error, "leases could not be given back: the next start does it, and counts a restart");
        }
        if let Err(error) = self.members.leave(&self.scheduler, &self.fleet).await {
            tracing::warn!(%error, "the agents of this process could not be marked as stopped");
        }
    }

    fn start_loops(&self, roles: &BTreeSet<AgentRole>, registry: Arc<Registry>) {
        for (name, role, which) in Loop::ALL {
            if roles.contains(&role) {
                let (scheduler, judge, hitl, stop) =
                    (self.scheduler.clone(), self.judge.clone(), self.hitl.clone(), self.stop.clone());
                self.loops.spawn(async move { which.run(name, scheduler, judge, hitl, stop).await });
            }
        }
        let (unloader, stop) = (registry.clone(), self.stop.clone());
        self.loops.spawn(async move {
            let unload = || async {
                unloader.unload_unrouted().await?;
                Ok(Turn::Idle)
            };
            runner::run("unload", stop, &Notify::new(), UNLOAD, unload).await;
        });
        let (scheduler, stop) = (self.scheduler.clone(), self.stop.clone());
        self.loops.spawn(async move { scheduler.listen(stop).await });
        if let Some(pool) = self.pool.clone() {
            self.loops.spawn(async move { pool.work().await });
        }
        if self.fleet != Fleet::Alone {
            let (members, scheduler, stop) = (self.members.clone(), self.scheduler.clone(), self.stop.clone());
            self.loops.spawn(async move { members.beat(&scheduler, stop).await });
            let (truth, stop) = (self.scheduler.truth().clone(), self.stop.clone());
            let warm = if self.pool.is_some() { Warm::Compiled } else { Warm::IndexOnly };
            self.loops.spawn(async move { crate::fleet::follow_skills(truth, registry, warm, stop).await });
        }
    }
}

impl Drop for SwarmHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug, Clone, Copy)]
enum Loop {
    Plan,
    Replan,
    Relay,
    Judge,
    Sweep,
    Expiry,
    Redrive,
}

impl Loop {
    /// Each with its name, and whose it is.
    const ALL: [(&'static str, AgentRole, Self); 7] = [
        ("plan", AgentRole::Planner, Self::Plan),
        ("replan", AgentRole::Planner, Self::Replan),
        ("relay", AgentRole::Planner, Self::Relay),
        ("judge", AgentRole::Judge, Self::Judge),
        ("sweep", AgentRole::Planner, Self::Sweep),
        ("expiry", AgentRole::Judge, Self::Expiry),
        ("redrive", AgentRole::Planner, Self::Redrive),
    ];

    async fn run(self, name: &'static str, scheduler: Scheduler, judge: Judge, hitl: Hitl, stop: CancellationToken) {
        let never = Notify::new();
        let wakes = scheduler.wakes();
        match self {
            Self::Plan => runner::run(name, stop, &wakes.plan, POLL, || scheduler.plan_turn()).await,
            Self::Replan => runner::run(name, stop, &wakes.replan, POLL, || scheduler.replan_turn()).await,
            Self::Relay => runner::run(name, stop, &wakes.relay, POLL, || scheduler.relay_turn()).await,
            Self::Judge => runner::run(name, stop, &wakes.judge, POLL, || judge.turn()).await,
            Self::Sweep => runner::run(name, stop, &never, SWEEP, || scheduler.sweep_turn()).await,
            Self::Expiry => runner::run(name, stop, &never, SWEEP, || hitl.expiry_turn()).await,
            Self::Redrive => runner::run(name, stop, &never, REDRIVE, || scheduler.redrive_turn()).await,
        }
    }
}
