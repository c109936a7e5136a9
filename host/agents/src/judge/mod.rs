//! The judge: decides what a finished task is worth, and asks a human where it may not decide.
//!
//! The validator gives verdicts, `hitl` takes human answers, the loops here carry both to the scheduler. Nothing here runs
//! a skill, and no verdict ever lets an effect out: effects are gated before they are sent. Called by the swarm and the
//! API.

pub mod hitl;
pub mod validator;

use crate::error::{AgentError, AgentErrorKind};
use crate::planner::scheduler::{Scheduler, done_with};
use crate::runner::{self, Turn};
use crate::worker::reporter::failure_of;
use chimera_core::audit::Actor;
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::failpoint;
use chimera_core::failure::FailureKind;
use chimera_core::ids::TaskId;
use chimera_core::machine::TaskEvent;
use chimera_core::task::TaskState;
use chimera_core::verdict::{CheckResult, Decision};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use validator::Case;

/// A verdict never takes longer; one that would is a human's.
pub const VERDICT_CAP: Duration = Duration::from_secs(3);
/// How many reported tasks one turn takes.
const BATCH: u32 = 64;
/// How many tasks are judged at once.
const AT_ONCE: usize = 32;

/// An opinion on a task, without consequences: the answer of `POST /evaluate_task`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Good enough without a human.
    pub approved: bool,
    /// A human must decide.
    pub escalation: bool,
    /// Why.
    pub notes: String,
}

/// Gives verdicts on reported tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Judge {
    scheduler: Scheduler,
}

impl Judge {
    /// A judge that tells this scheduler.
    pub fn new(scheduler: Scheduler) -> Self {
        Self { scheduler }
    }

    /// One turn: tasks that were reported.
    ///
    /// # Errors
    /// `Unavailable` when the truth cannot be asked; a single task's trouble is logged and tried again.
    pub(crate) async fn turn(&self) -> Result<Turn, AgentError> {
        let rows = self.scheduler.claim(OutboxTopic::Judge, BATCH).await?;
        if rows.is_empty() {
            return Ok(Turn::Idle);
        }
        let mut jobs = Vec::new();
        for row in &rows {
            jobs.push(
                async move {
                    match self.judge_row(row).await {
                        Err(error) if error.kind() != AgentErrorKind::Conflict => {
                            tracing::warn!(row = %row.id, %error, "a task could not be judged; tried again later");
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                .boxed(),
            );
        }
        runner::all(jobs, AT_ONCE).await;
        Ok(Turn::of(rows.len(), BATCH))
    }

    /// Judges what is waiting now; for tests and for a host that runs without loops.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn judge_all(&self) -> Result<(), AgentError> {
        while self.turn().await? != Turn::Idle {}
        Ok(())
    }

    async fn judge_row(&self, row: &Outbox) -> Result<(), AgentError> {
        let started = Instant::now();
        let task = match row.task {
            Some(id) => self.scheduler.truth().task(id).await?,
            None => None,
        };
        let Some(task) = task.filter(|task| task.state == TaskState::Judging) else {
            return self.scheduler.drop_row(row).await;
        };
        let spec = self.scheduler.spec_of(&task).await?;
        let id = task.id;
        let case = Case::read(&self.scheduler, task, spec).await?;
        let left = VERDICT_CAP.saturating_sub(started.elapsed());
        let mut verdict = validator::decide_soon(case, left).await;
        verdict.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        failpoint::hit("judge.before_verdict");
        let event = TaskEvent::Judged { verdict };
        self.scheduler.apply_with(id, event, &done_with(row.id), Actor::Judge).await.map(|_| ())
    }

    /// What the judge would say of a task with this confidence or error; changes nothing. The confidence counts only
    /// where it is lower than the skill's own: an opinion from outside makes a verdict stricter, never laxer.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a confidence outside 0 to 1; `Conflict` when nothing was reported yet; `Unavailable`.
    pub async fn evaluate(
        &self,
        task: TaskId,
        confidence: Option<f64>,
        error_code: Option<&str>,
    ) -> Result<Evaluation, AgentError> {
        if confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
            return Err(AgentError::Invalid("confidence must be a number from 0 to 1".to_owned()));
        }
        let mut task = self.scheduler.task(task).await?;
        if let Some(code) = error_code {
            return Ok(evaluate_failure(code));
        }
        if task.state.is_final() {
            let notes = format!("decided: the task is {}", task.state.as_str());
            return Ok(Evaluation { approved: task.state == TaskState::Approved, escalation: false, notes });
        }
        let Some(outcome) = &mut task.outcome else {
            return Err(AgentError::Conflict(format!(
                "task {} is {} and nothing was reported yet",
                task.id,
                task.state.as_str()
            )));
        };
        outcome.confidence = confidence.map_or(outcome.confidence, |given| given.min(outcome.confidence));
        let spec = self.scheduler.spec_of(&task).await?;
        let case = Case::read(&self.scheduler, task, spec).await?;
        let verdict = validator::decide_soon(case, VERDICT_CAP).await;
        let failed: Vec<String> = verdict
            .checks
            .iter()
            .filter(|check| check.result == CheckResult::Failed)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        let notes =
            if failed.is_empty() { verdict.reason } else { format!("{} ({})", verdict.reason, failed.join("; ")) };
        Ok(Evaluation {
            approved: verdict.decision == Decision::Approve,
            escalation: verdict.decision == Decision::Escalate,
            notes,
        })
    }
}

fn evaluate_failure(code: &str) -> Evaluation {
    let failure = failure_of(code);
    let (escalation, what) = match failure.kind {
        FailureKind::Transient => (false, "it is run again after a pause"),
        FailureKind::InvalidInput | FailureKind::Permanent => (false, "the planner looks for another way"),
        FailureKind::Denied | FailureKind::Security | FailureKind::Poison => (true, "a human decides"),
    };
    Evaluation { approved: false, escalation, notes: format!("{}: {what}", failure.kind.as_str()) }
}
