//! The scheduler's own loops: planning, replanning, relaying to the queue, sweeping, and recovery at the start.
//!
//! Each turn claims rows of the outbox or asks the truth what is due, and hands every one to the scheduler; nothing is
//! kept in memory between turns, so a kill at any moment loses nothing. No loop runs a skill. Started by the swarm.

use super::scheduler::{Scheduler, done_with};
use crate::error::{AgentError, AgentErrorKind};
use crate::fleet::Fleet;
use crate::runner::{self, Turn};
use chimera_core::audit::Actor;
use chimera_core::campaign::CampaignState;
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::failpoint;
use chimera_core::failure::codes;
use chimera_core::ids::{AgentId, TaskId};
use chimera_core::machine::{LeaseEnd, TaskEvent};
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{Notice, TaskFilter, WaitingTask};
use chimera_core::records::AgentRole;
use chimera_core::task::{Task, TaskState};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// For how long a row is claimed: a process that dies with it lets it go after that.
const CLAIM: Duration = Duration::from_secs(30);
/// How many rows one turn of the planner, and one of the replanner, takes.
const PLAN_BATCH: u32 = 4;
const REPLAN_BATCH: u32 = 16;
/// How many rows one turn of the relay takes.
const RELAY_BATCH: u32 = 128;
/// How many waiting tasks are read at once, and how often in one turn.
const REDRIVE_PAGE: u32 = 1000;
const REDRIVE_PAGES: u32 = 10;
/// How many things are done at once within a turn; the store joins their commits into few.
const AT_ONCE: usize = 32;

impl Scheduler {
    /// Wakes the loops when the truth tells of new rows.
    pub(crate) async fn listen(&self, cancel: CancellationToken) {
        loop {
            let mut listener = self.truth().subscribe();
            loop {
                let heard = tokio::select! {
                    () = cancel.cancelled() => return,
                    heard = listener.next() => heard,
                };
                match heard {
                    Heard::Notice(Notice::Outbox(topic)) => self.wake(topic),
                    Heard::Notice(Notice::Queued) => self.wakes().queue.notify_waiters(),
                    Heard::Notice(_) => {}
                    Heard::Missed => {
                        for topic in [OutboxTopic::Dispatch, OutboxTopic::Judge, OutboxTopic::Plan, OutboxTopic::Replan]
                        {
                            self.wake(topic);
                        }
                        self.wakes().queue.notify_waiters();
                    }
                    Heard::Closed => break,
                }
            }
            // The truth is closing; the polls go on until the swarm is told to stop.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    fn wake(&self, topic: OutboxTopic) {
        let wakes = self.wakes();
        match topic {
            OutboxTopic::Dispatch => wakes.relay.notify_one(),
            OutboxTopic::Judge => wakes.judge.notify_one(),
            OutboxTopic::Plan => wakes.plan.notify_one(),
            OutboxTopic::Replan => wakes.replan.notify_one(),
        }
    }

    pub(crate) async fn claim(&self, topic: OutboxTopic, limit: u32) -> Result<Vec<Outbox>, AgentError> {
        let now = self.clock().now();
        Ok(self.truth().claim_outbox(topic, now, now.plus(CLAIM), limit).await?)
    }

    /// One turn of the planner: campaigns that want a plan.
    ///
    /// # Errors
    /// `Unavailable` when the truth cannot be asked; a single campaign's trouble is logged and tried again.
    pub(crate) async fn plan_turn(&self) -> Result<Turn, AgentError> {
        let rows = self.claim(OutboxTopic::Plan, PLAN_BATCH).await?;
        for row in &rows {
            if let Err(error) = self.plan_row(row).await {
                log_row("plan", row, &error);
            }
        }
        Ok(Turn::of(rows.len(), PLAN_BATCH))
    }

    async fn plan_row(&self, row: &Outbox) -> Result<(), AgentError> {
        let campaign = match row.campaign {
            Some(id) => self.truth().campaign(id).await?,
            None => None,
        };
        let Some(campaign) = campaign.filter(|campaign| campaign.state == CampaignState::Planning) else {
            return self.drop_row(row).await;
        };
        let started = Instant::now();
        let planned = self.decomposer().plan(&campaign).await;
        let plan_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        failpoint::hit("planner.before_plan_commit");
        match planned {
            Ok(plan) => self.accept_plan(&campaign, plan, plan_ms, done_with(row.id)).await,
            Err(failure) if failure.code == codes::HOST => Err(AgentError::Unavailable(failure.message)),
            Err(failure) => self.refuse_plan(&campaign, failure, done_with(row.id)).await,
        }
    }

    /// One turn of the replanner: tasks that failed for good.
    ///
    /// # Errors
    /// As [`Scheduler::plan_turn`].
    pub(crate) async fn replan_turn(&self) -> Result<Turn, AgentError> {
        let rows = self.claim(OutboxTopic::Replan, REPLAN_BATCH).await?;
        for row in &rows {
            match self.replan(row).await {
                Err(error) if error.kind() == AgentErrorKind::NotFound => self.drop_row(row).await?,
                Err(error) => log_row("replan", row, &error),
                Ok(()) => {}
            }
        }
        Ok(Turn::of(rows.len(), REPLAN_BATCH))
    }

    /// One turn of the relay: ready tasks go to the queue.
    ///
    /// # Errors
    /// `Unavailable` when truth or queue cannot be reached; the rows are claimed again later.
    pub(crate) async fn relay_turn(&self) -> Result<Turn, AgentError> {
        let rows = self.claim(OutboxTopic::Dispatch, RELAY_BATCH).await?;
        if rows.is_empty() {
            return Ok(Turn::Idle);
        }
        let mut reads = Vec::new();
        for row in &rows {
            if let Some(task) = row.task {
                reads.push(async move { (row, self.truth().task(task).await) }.boxed());
            }
        }
        let mut ready: Vec<(&Outbox, Task)> = Vec::new();
        let mut obsolete: Vec<&Outbox> = rows.iter().filter(|row| row.task.is_none()).collect();
        for (row, task) in runner::all(reads, AT_ONCE).await {
            match task? {
                Some(task) if matches!(task.state, TaskState::Pending | TaskState::Queued) => ready.push((row, task)),
                _ => obsolete.push(row),
            }
        }
        let mut settling = Vec::new();
        let obsolete = obsolete.into_iter().map(|row| (row, None));
        for (row, task) in ready.iter().map(|(row, task)| (*row, Some(task))).chain(obsolete) {
            settling.push(
                async move {
                    match self.settle_relayed(row, task).await {
                        Ok(()) => task,
                        Err(error) => {
                            log_row("relay", row, &error);
                            None
                        }
                    }
                }
                .boxed(),
            );
        }
        // Written first: a worker that is faster than the row would make it stale. What is lost in between is found by
        // whoever fills the queue again.
        let settled = runner::all(settling, AT_ONCE).await;
        failpoint::hit("relay.before_push");
        self.push(settled.into_iter().flatten()).await?;
        Ok(Turn::of(rows.len(), RELAY_BATCH))
    }

    async fn settle_relayed(&self, row: &Outbox, task: Option<&Task>) -> Result<(), AgentError> {
        if let Some(task) = task.filter(|task| task.state == TaskState::Pending) {
            let done = done_with(row.id).with_next();
            match self.apply_with(task.id, TaskEvent::Enqueued, &done, Actor::System).await {
                // Somebody else may have been faster than this row: then there is nothing left to mark.
                Err(error) if error.kind() == AgentErrorKind::Conflict => {}
                other => return other.map(|_| ()),
            }
        }
        self.drop_row(row).await
    }

    pub(crate) async fn drop_row(&self, row: &Outbox) -> Result<(), AgentError> {
        self.commit(done_with(row.id).with_next()).await.map(|_| ())
    }

    async fn push<'t>(&self, tasks: impl Iterator<Item = &'t Task>) -> Result<(), AgentError> {
        self.push_each(tasks.map(|task| (task.planner_id.as_str(), task.id, task.priority))).await
    }

    async fn push_each<'t>(&self, tasks: impl Iterator<Item = (&'t str, TaskId, u8)>) -> Result<(), AgentError> {
        let mut by_shard: BTreeMap<&str, Vec<(TaskId, u8)>> = BTreeMap::new();
        for (planner_id, task, priority) in tasks {
            by_shard.entry(planner_id).or_default().push((task, priority));
        }
        for (planner_id, tasks) in by_shard {
            self.queue().push(planner_id, &tasks, self.clock().now()).await?;
        }
        self.tell_queued();
        Ok(())
    }

    /// Wakes workers: here at once, elsewhere with what is told of the truth.
    pub(super) fn tell_queued(&self) {
        self.wakes().queue.notify_waiters();
        self.truth().tell(Notice::Queued);
    }

    /// One turn of the sweeper: leases that ran out and retries that are due.
    ///
    /// # Errors
    /// `Unavailable` when the truth cannot be asked.
    pub(crate) async fn sweep_turn(&self) -> Result<Turn, AgentError> {
        let now = self.clock().now();
        let expired = self.truth().expired_leases(now, 200).await?;
        let due = self.truth().due_retries(now, 200).await?;
        let lost = TaskEvent::LeaseExpired { cause: LeaseEnd::WorkerLost };
        let expired = expired.iter().map(|task| (task, lost.clone()));
        let mut jobs = Vec::new();
        for (task, event) in expired.chain(due.iter().map(|task| (task, TaskEvent::RetryDue))) {
            jobs.push(self.sweep_one(task, event).boxed());
        }
        runner::all(jobs, AT_ONCE).await;
        self.settle_canaries().await?;
        Ok(Turn::Idle)
    }

    async fn sweep_one(&self, task: &Task, event: TaskEvent) {
        // The revision that was seen to be due is the one that is moved: a heartbeat in between must win.
        match self.try_apply_at(task, event).await {
            Ok(()) => {}
            Err(error) if error.kind() == AgentErrorKind::Conflict => {}
            Err(error) => tracing::warn!(task = %task.id, %error, "could not be swept; the next sweep tries again"),
        }
    }

    async fn try_apply_at(&self, task: &Task, event: TaskEvent) -> Result<(), AgentError> {
        let mut extra = chimera_core::change::Change::new();
        extra.guard(chimera_core::change::Guard::TaskRev(task.id, task.rev));
        self.apply_with(task.id, event, &extra, Actor::System).await.map(|_| ())
    }

    /// Puts tasks that are queued in the truth on the queue again, going on where the last turn stopped: idempotent, and
    /// what makes losing a queue harmless.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn redrive_turn(&self) -> Result<Turn, AgentError> {
        let mut last = self.inner.redriven.lock().unwrap_or_else(PoisonError::into_inner).take();
        for _ in 0..REDRIVE_PAGES {
            last = self.redrive_page(last.as_ref()).await?;
            if last.is_none() {
                break;
            }
        }
        *self.inner.redriven.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(Turn::Idle)
    }

    /// Puts a page of them on the queue; its last one, if there may be more.
    async fn redrive_page(&self, after: Option<&WaitingTask>) -> Result<Option<WaitingTask>, AgentError> {
        let mut waiting = self.truth().queued(after, REDRIVE_PAGE).await?;
        if !waiting.is_empty() {
            self.push_each(waiting.iter().map(|task| (task.planner_id.as_str(), task.task, task.priority))).await?;
        }
        let may_be_more = waiting.len() >= REDRIVE_PAGE as usize;
        Ok(waiting.pop().filter(|_| may_be_more))
    }

    /// Puts right what a killed process left: ends the leases of this host's own workers (each counts as a restart of the
    /// host: who was stopped properly has left none), lifts the claims if they can be nobody else's, and fills the queue if
    /// that is its business. To be called once at the start, when no worker of these ids can be alive.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn recover(
        &self,
        local_workers: &BTreeSet<AgentId>,
        fleet: &Fleet,
        roles: &BTreeSet<AgentRole>,
    ) -> Result<(), AgentError> {
        if *fleet == Fleet::Alone {
            self.truth().release_outbox_claims().await?;
            self.queue().release_claims().await?;
        }
        self.end_leases(local_workers, LeaseEnd::HostRestarted).await?;
        if !roles.contains(&AgentRole::Planner) {
            return Ok(());
        }
        self.refill().await
    }

    /// Puts every task that is queued in the truth on the queue: at the start, and whenever another queue is used from now on.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn refill(&self) -> Result<(), AgentError> {
        let mut last = self.redrive_page(None).await?;
        while last.is_some() {
            last = self.redrive_page(last.as_ref()).await?;
        }
        Ok(())
    }

    /// Gives back what this host's own workers held when they were told to stop: that is nobody's fault and counts
    /// against no task. To be called when no run is going on any more.
    ///
    /// # Errors
    /// `Unavailable`; what is not given back counts as a restart of the host at the next start.
    pub(crate) async fn give_back(&self, local_workers: &BTreeSet<AgentId>) -> Result<(), AgentError> {
        self.end_leases(local_workers, LeaseEnd::HostStopped).await
    }

    async fn end_leases(&self, local_workers: &BTreeSet<AgentId>, cause: LeaseEnd) -> Result<(), AgentError> {
        let filter = TaskFilter { states: vec![TaskState::Running], ..TaskFilter::default() };
        loop {
            let running = self.truth().tasks(&filter).await?;
            let is_local =
                |task: &&Task| task.lease.as_ref().is_some_and(|lease| local_workers.contains(&lease.worker));
            let orphans: Vec<&Task> = running.iter().filter(is_local).collect();
            if orphans.is_empty() {
                break;
            }
            let mut moved = 0;
            for task in orphans {
                match self.apply(task.id, TaskEvent::LeaseExpired { cause }, Actor::System).await {
                    Ok(_) => moved += 1,
                    Err(error) if error.kind() == AgentErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
            if moved == 0 {
                break;
            }
        }
        Ok(())
    }
}

fn log_row(what: &str, row: &Outbox, error: &AgentError) {
    if error.kind() == AgentErrorKind::Conflict {
        tracing::debug!(what, row = %row.id, %error, "somebody else handled the row");
    } else {
        tracing::warn!(what, row = %row.id, %error, "the row is tried again when its claim ends");
    }
}
