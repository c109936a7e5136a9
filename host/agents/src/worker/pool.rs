//! The pool of the host's own workers: takes as many ready tasks as there are free workers, runs each in a task of its
//! own, and keeps its lease alive.
//!
//! A run that panics costs its attempt and not the worker; a run whose heartbeat is refused is dropped. The pool decides
//! nothing about tasks. What is large and comes late, or seldom, is boxed: a run's future is moved some times before it is
//! first polled, and is as large as its largest part. Started by the swarm.

use super::deferred::{BriefRuns, DeferredLease, MOMENT};
use super::executor::{Executed, Executor};
use super::reporter::report_run;
use crate::error::{AgentError, AgentErrorKind};
use crate::planner::scheduler::Scheduler;
use crate::planner::{LeasedTask, Taken};
use crate::runner::Turn;
use chimera_core::change::Change;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::AgentId;
use chimera_core::ports::Queued;
use chimera_core::task::Lease;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most tasks that are leased in one turn.
const TAKEN_AT_ONCE: u32 = 256;
/// Most workers of one pool.
pub const MAX_WORKERS: usize = 1024;

/// The host's own workers.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    executor: Executor,
    brief: BriefRuns,
    free: Mutex<Vec<AgentId>>,
    runs: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
    /// Nothing runs any more.
    done: CancellationToken,
}

impl Inner {
    /// Nothing new is to be taken.
    async fn ended(&self) {
        tokio::select! {
            () = self.draining.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// A worker that is busy; it is free again when this is dropped, whatever became of the run.
struct Busy {
    pool: Pool,
    worker: AgentId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.pool.inner.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.worker);
        self.pool.inner.scheduler.wakes().queue.notify_waiters();
    }
}

impl Pool {
    /// A pool of these workers. `draining` ends the taking of tasks, `stop` every run.
    pub(crate) fn open(
        scheduler: Scheduler,
        executor: Executor,
        workers: &[AgentId],
        draining: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        let free = Mutex::new(workers.iter().rev().copied().collect());
        let done = CancellationToken::new();
        let (brief, runs) = (BriefRuns::since(scheduler.clock().now()), TaskTracker::new());
        Self { inner: Arc::new(Inner { scheduler, executor, brief, free, runs, draining, stop, done }) }
    }

    /// Takes tasks until it is told to drain or to stop, then waits for the runs to end.
    pub(crate) async fn work(&self) {
        let wakes = self.inner.scheduler.wakes();
        let mut pause = Duration::from_millis(50);
        loop {
            // Armed before looking, so that nothing that is put on the queue in between is missed.
            let woken = wakes.queue.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.inner.draining.is_cancelled() {
                break;
            }
            // Runs end in lots, when the store has written a lot of reports: who asks after the first of them takes one task.
            tokio::task::yield_now().await;
            // A turn that has begun is finished when nothing new is to be taken: it may have leased tasks already.
            let wait = tokio::select! {
                () = self.inner.stop.cancelled() => break,
                turn = self.turn() => match turn {
                    Ok(Turn::Worked) => { pause = Duration::from_millis(50); continue }
                    Ok(Turn::Drained | Turn::Idle) => { pause = Duration::from_millis(50); Duration::from_millis(250) }
                    Err(error) => {
                        tracing::warn!(%error, "the workers cannot take tasks; trying again");
                        pause = (pause * 2).min(Duration::from_secs(5));
                        // Whatever wakes it: the workers that got nothing are free again, which does.
                        tokio::select! {
                            () = self.inner.ended() => break,
                            () = tokio::time::sleep(pause) => continue,
                        }
                    }
                },
            };
            tokio::select! {
                () = self.inner.ended() => break,
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.inner.runs.close();
        self.inner.runs.wait().await;
        self.inner.done.cancel();
    }

    /// Waits for everything that runs; to be called once nothing new is taken.
    pub(crate) async fn runs_to_end(&self) {
        self.inner.done.cancelled().await;
    }

    async fn turn(&self) -> Result<Turn, AgentError> {
        let idle = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner).len();
        if idle == 0 {
            return Ok(Turn::Idle);
        }
        let limit = u32::try_from(idle).unwrap_or(u32::MAX).min(TAKEN_AT_ONCE);
        let items = self.inner.scheduler.claim_queue(limit).await?;
        let turn = Turn::of(items.len(), limit);
        let mut busy = Vec::with_capacity(items.len());
        for _ in &items {
            let worker = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // Claimed only as many as are free, and only this loop takes them: there is one.
            let Some(worker) = worker else { break };
            busy.push(Busy { pool: self.clone(), worker });
        }
        let wanted: Vec<(&Queued, AgentId)> = items.iter().zip(&busy).map(|(item, busy)| (item, busy.worker)).collect();
        let brief = &self.inner.brief;
        let taken = self.inner.scheduler.take_all(&wanted, &|task, spec| brief.may_defer(task, spec)).await;
        let mut refused = None;
        for ((item, busy), taken) in items.into_iter().zip(busy).zip(taken) {
            match taken {
                Ok(Some(Taken { leased, unwritten })) => {
                    self.inner
                        .runs
                        .spawn(async move { busy.serve(leased, unwritten.map(|change| (item, change))).await });
                }
                Ok(None) => {}
                // A queue that gives tasks while the truth takes no leases would be emptied for nothing.
                Err(error) if error.kind() == AgentErrorKind::Unavailable => refused = Some(error),
                Err(error) => tracing::warn!(task = %item.task, %error, "the task is left to the queue"),
            }
        }
        refused.map_or(Ok(turn), Err)
    }
}

impl Busy {
    async fn serve(self, leased: LeasedTask, unwritten: Option<(Queued, Change)>) {
        let inner = self.pool.inner.clone();
        let (task, attempt) = (leased.task.id, leased.task.attempt);
        let served = async {
            let Some(lease) = leased.task.lease.clone() else { return Ok(()) };
            let deferred = unwritten
                .map(|(item, change)| Arc::new(DeferredLease::new(inner.scheduler.clone(), item, lease.id, change)));
            let leased = Arc::new(leased);
            let executed = tokio::select! {
                executed = run_apart(inner.executor.clone(), leased.clone(), lease.clone(), deferred.clone()) => executed,
                () = keep_alive(&inner.scheduler, task, attempt, &lease, deferred.as_deref()) => {
                    tracing::info!(%task, attempt, "the run was dropped: its task is somebody else's now");
                    return Ok(());
                }
            };
            inner.brief.learn(&executed);
            Box::pin(report_run(&inner.scheduler, &leased, &lease, deferred.as_deref(), executed)).await.map(|_| ())
        };
        let ended: Result<(), AgentError> = tokio::select! {
            () = inner.stop.cancelled() => return,
            served = served => served,
        };
        match ended {
            Ok(()) => {}
            Err(error) if error.kind() == AgentErrorKind::Conflict => {
                tracing::info!(%task, %error, "a late report was refused");
            }
            Err(error) => tracing::warn!(%task, %error, "the task is left to its lease"),
        }
    }
}

/// Runs on the threads for guests, and in a task of its own, so that a panic is a value; it is aborted when this future is
/// dropped.
async fn run_apart(
    executor: Executor,
    leased: Arc<LeasedTask>,
    lease: Lease,
    deferred: Option<Arc<DeferredLease>>,
) -> Executed {
    let skill = leased.spec.skill.clone();
    let sandbox = executor.sandbox().clone();
    let run = sandbox.spawn(async move { Box::pin(executor.execute(&leased, &lease, deferred)).await });
    run.await.unwrap_or_else(|error| {
        let what = if error.is_panic() { "panicked" } else { "was stopped" };
        let failure =
            Failure::new(FailureKind::Permanent, codes::HOST, format!("the host {what} while it ran the task"));
        Executed::failed(failure, skill)
    })
}

/// Writes a lease that is not written yet once the run takes longer than a moment, then beats the heart until it is refused.
/// An unreachable truth is no refusal: the lease lasts longer than a few beats.
async fn keep_alive(
    scheduler: &Scheduler,
    task: chimera_core::ids::TaskId,
    attempt: u32,
    lease: &Lease,
    deferred: Option<&DeferredLease>,
) {
    if let Some(deferred) = deferred {
        let mut wait = MOMENT;
        loop {
            tokio::time::sleep(wait).await;
            match Box::pin(deferred.write()).await {
                Ok(()) => break,
                Err(error) if matches!(error.kind(), AgentErrorKind::Conflict | AgentErrorKind::NotFound) => return,
                Err(error) => tracing::warn!(%task, %error, "a lease could not be written"),
            }
            wait = (wait * 2).min(Lease::HEARTBEAT);
        }
    }
    loop {
        tokio::time::sleep(Lease::HEARTBEAT).await;
        match Box::pin(scheduler.heartbeat(task, lease.id, attempt, lease.worker)).await {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), AgentErrorKind::Conflict | AgentErrorKind::NotFound) => return,
            Err(error) => tracing::warn!(%task, %error, "a heartbeat could not be written"),
        }
    }
}
