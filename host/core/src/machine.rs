//! The state machine of a task: the one function that moves a task from state to state.
//!
//! ```text
//! pending ──enqueue──▶ queued ──lease──▶ running ──finished──▶ judging ──approve──▶ approved
//!                        ▲                 │ │ │                 │ │ │
//!                        │                 │ │ └─failed(final)─┐ │ │ └──reject────▶ rejected
//!                        ├──retry due── retry_wait ◀─transient─┤ │ └────escalate─┐
//!                        │                 ▲ │                 │ └───retry──▶ retry_wait
//!                        │                 │ │                 ├──replan──▶ failed
//!                        ├──lease expired──┘ └─suspended──▶ awaiting_approval ──approve──▶ queued | approved
//!                        └──────────────────────────────────────┴───────────────reject──▶ rejected
//! any state that is not final ──cancel──▶ cancelled
//! ```
//!
//! [`transition`] is pure: it takes the task, the event and the context, and gives a [`Change`] (guarded by the task's
//! revision) or refuses. What follows for the campaign is [`crate::campaign::advance`]'s to say. Called by the
//! scheduler, the reporter, the judge and the sweepers.

use crate::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use crate::audit::ReviewStatus;
use crate::change::{Change, Context, Durability, Guard, Outbox, OutboxTopic, Write};
use crate::clock::Timestamp;
use crate::effect::{Effect, EffectState};
use crate::failure::{Failure, FailureKind, codes};
use crate::ids::{ApprovalId, LeaseId};
use crate::journal::Divergence;
use crate::skill::{SkillRef, SkillState};
use crate::task::{Lease, Outcome, Task, TaskState, Usage};
use crate::verdict::{Decision, Verdict};
use serde_json::{Value, json};
use std::time::Duration;

/// Most transient retries of one task.
pub const MAX_RETRIES: u32 = 5;
/// Workers that may die on a task before it is poisoned.
pub const MAX_DEATHS: u32 = 3;
/// How often the host may end without notice during a task's runs before the task is poisoned. More than
/// [`MAX_DEATHS`], because what ran beside the culprit goes down with it.
pub const MAX_RESTARTS: u32 = 10;
/// First backoff; doubles with every retry.
pub const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Longest backoff.
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// Something that happened to a task.
#[allow(clippy::large_enum_variant, reason = "an event lives for one call and is never kept in bulk")]
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// The relay put it on the queue.
    Enqueued,
    /// A worker took it.
    Leased {
        /// The new lease.
        lease: Lease,
    },
    /// The worker is alive.
    Heartbeat {
        /// The lease.
        lease: LeaseId,
        /// The attempt.
        attempt: u32,
        /// Until when the lease now lasts.
        until: Timestamp,
    },
    /// The skill returned.
    Finished {
        /// The lease.
        lease: LeaseId,
        /// The attempt.
        attempt: u32,
        /// What it returned.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// The skill, or the host for it, failed.
    Failed {
        /// The lease.
        lease: LeaseId,
        /// The attempt.
        attempt: u32,
        /// How.
        failure: Failure,
        /// What it used.
        usage: Usage,
        /// The skill version that ran, to be suspended on a security violation.
        skill: SkillRef,
    },
    /// The run stopped at a call that waits for a human; the gateway has written the approval.
    Suspended {
        /// The lease.
        lease: LeaseId,
        /// The attempt.
        attempt: u32,
        /// The question.
        approval: ApprovalId,
        /// What it used.
        usage: Usage,
    },
    /// The replayed run asked for something else than the journal says.
    Diverged {
        /// The lease.
        lease: LeaseId,
        /// The attempt.
        attempt: u32,
        /// Where and how.
        divergence: Divergence,
        /// What it used.
        usage: Usage,
    },
    /// The lease ran out.
    LeaseExpired {
        /// Whose fault it was.
        cause: LeaseEnd,
    },
    /// The time in `run_after` has come.
    RetryDue,
    /// The judge decided.
    Judged {
        /// What.
        verdict: Verdict,
    },
    /// A human decided what the task waits for.
    Answered {
        /// The approval as it was, open.
        approval: Approval,
        /// What the human said.
        answer: Answer,
        /// The effect it is about.
        effect: Option<Effect>,
        /// The skill version, to be lifted from suspension.
        skill: SkillRef,
    },
    /// Nobody wants it any more.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl TaskEvent {
    /// Whether the event must be on disk before anybody goes on; if not, its caller decides. On its way to a worker a task
    /// can always be sent again: whatever a run does to the outside world is written down, and waited for, before it is
    /// done. And what a run returned counts once the verdict on it does.
    pub fn durability(&self) -> Durability {
        match self {
            Self::Enqueued | Self::Leased { .. } | Self::Heartbeat { .. } | Self::Finished { .. } => {
                Durability::WithNext
            }
            _ => Durability::Now,
        }
    }
}

/// Why a lease ended without a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The worker's heart stopped: it may have been the task. Counts towards poison.
    WorkerLost,
    /// The host was killed or fell over: it may have been the task, but hardly. Counts by itself, and towards poison
    /// only after [`MAX_RESTARTS`] times.
    HostRestarted,
    /// The host was told to stop and gave the task back: nobody's fault, does not count.
    HostStopped,
}

/// An event that does not fit the task's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The lease or the attempt is not the current one: the reporter was fenced off.
    #[error("attempt {attempt} of task {task} no longer holds it (state {state}): the report is too late", state = state.as_str())]
    Fenced {
        /// The task.
        task: crate::ids::TaskId,
        /// The attempt that came too late.
        attempt: u32,
        /// Where the task is.
        state: TaskState,
    },
    /// The state has no such arrow.
    #[error("a task that is {} cannot be {event}", state.as_str())]
    NoArrow {
        /// Where the task is.
        state: TaskState,
        /// The event's name.
        event: &'static str,
    },
}

struct Draft<'c, 'x> {
    task: Task,
    change: Change,
    cx: &'c Context<'x>,
    action: &'static str,
    review: ReviewStatus,
    detail: Value,
}

/// Moves a task. The returned task is what the change writes, for [`crate::campaign::advance`] to look at.
///
/// # Errors
/// [`Refused`] if the event does not fit the task's state, lease or attempt; nothing is to be written then.
pub fn transition(task: &Task, event: TaskEvent, cx: &Context<'_>) -> Result<(Task, Change), Refused> {
    let rev = task.rev;
    let (task, mut change) = step(task.clone(), event, cx)?;
    change.guards.insert(0, Guard::TaskRev(task.id, rev));
    change.write(Write::PutTask(task.clone()));
    Ok((task, change))
}

/// As [`transition`], for whoever moves a task several times in one change: neither guarded by the task's revision nor
/// writing the task, which are the caller's to add once.
///
/// # Errors
/// As [`transition`].
pub fn step(task: Task, event: TaskEvent, cx: &Context<'_>) -> Result<(Task, Change), Refused> {
    let task = Task { rev: task.rev + 1, updated_at: cx.now, ..task };
    let mut draft =
        Draft { task, change: Change::new(), cx, action: "", review: ReviewStatus::None, detail: json!({}) };
    draft.apply(event)?;
    let Draft { task, mut change, cx, action, review, mut detail } = draft;
    if !action.is_empty() {
        if let Some(map) = detail.as_object_mut() {
            map.insert("state".to_owned(), task.state.as_str().into());
            map.insert("attempt".to_owned(), task.attempt.into());
        }
        change.audit(cx.event(action).about(task.campaign, Some(task.id)).review(review).detail(detail));
    }
    Ok((task, change))
}

impl Draft<'_, '_> {
    fn apply(&mut self, event: TaskEvent) -> Result<(), Refused> {
        use TaskState::{AwaitingApproval, Judging, Pending, Queued, RetryWait, Running};
        match (self.task.state, event) {
            (Pending | Queued, TaskEvent::Enqueued) => self.enter(Queued, ""),
            (Queued | Pending, TaskEvent::Leased { lease }) => self.lease(lease),
            (Running, TaskEvent::Heartbeat { lease, attempt, until }) => {
                self.fence(lease, attempt)?;
                if let Some(held) = &mut self.task.lease {
                    held.until = held.until.max(until);
                }
            }
            (Running, TaskEvent::Finished { lease, attempt, outcome, usage }) => {
                self.fence(lease, attempt)?;
                self.end_attempt(usage);
                self.detail = json!({ "confidence": outcome.confidence, "usage": usage });
                self.task.outcome = Some(outcome);
                self.task.failure = None;
                self.enter(Judging, "task.reported");
                self.send(OutboxTopic::Judge);
            }
            (Running, TaskEvent::Failed { lease, attempt, failure, usage, skill }) => {
                self.fence(lease, attempt)?;
                self.end_attempt(usage);
                self.fail(failure, &skill);
            }
            (Running, TaskEvent::Suspended { lease, attempt, approval, usage }) => {
                self.fence(lease, attempt)?;
                self.end_attempt(usage);
                self.park(approval, "task.suspended");
            }
            (Running, TaskEvent::Diverged { lease, attempt, divergence, usage }) => {
                self.fence(lease, attempt)?;
                self.end_attempt(usage);
                let payload = json!(divergence);
                self.ask(
                    ApprovalKind::Divergence,
                    "Run the task afresh?",
                    &divergence.to_string(),
                    payload,
                    "task.diverged",
                );
            }
            (Running, TaskEvent::LeaseExpired { cause }) => self.expire_lease(cause),
            (RetryWait, TaskEvent::RetryDue) => {
                self.task.run_after = None;
                self.requeue("task.retried");
            }
            (Judging, TaskEvent::Judged { verdict }) => self.judge(verdict),
            (AwaitingApproval, TaskEvent::Answered { approval, answer, effect, skill }) => {
                self.answer(&approval, &answer, effect, &skill)?;
            }
            (state, TaskEvent::Cancelled { reason }) if !state.is_final() => {
                self.task.lease = None;
                self.task.waiting_on = None;
                self.task.run_after = None;
                self.detail = json!({ "reason": reason });
                self.enter(TaskState::Cancelled, "task.cancelled");
            }
            (state, event) => return Err(self.refuse(state, &event)),
        }
        Ok(())
    }

    fn refuse(&self, state: TaskState, event: &TaskEvent) -> Refused {
        match event {
            TaskEvent::Heartbeat { attempt, .. }
            | TaskEvent::Finished { attempt, .. }
            | TaskEvent::Failed { attempt, .. }
            | TaskEvent::Suspended { attempt, .. }
            | TaskEvent::Diverged { attempt, .. } => Refused::Fenced { task: self.task.id, attempt: *attempt, state },
            other => Refused::NoArrow { state, event: event_name(other) },
        }
    }

    fn fence(&self, lease: LeaseId, attempt: u32) -> Result<(), Refused> {
        if self.task.is_held_by(lease, attempt) {
            Ok(())
        } else {
            Err(Refused::Fenced { task: self.task.id, attempt, state: self.task.state })
        }
    }

    fn enter(&mut self, state: TaskState, action: &'static str) {
        self.task.state = state;
        self.action = action;
    }

    fn send(&mut self, topic: OutboxTopic) {
        self.change.write(Write::PutOutbox(Outbox::for_task(topic, &self.task, self.cx)));
    }

    fn lease(&mut self, lease: Lease) {
        self.task.attempt += 1;
        self.task.worker_id = Some(lease.worker);
        self.detail = json!({ "lease": lease.id, "worker": lease.worker });
        self.task.lease = Some(lease);
        self.enter(TaskState::Running, "task.leased");
    }

    fn end_attempt(&mut self, usage: Usage) {
        self.task.lease = None;
        self.task.usage = self.task.usage.plus(usage);
    }

    fn requeue(&mut self, action: &'static str) {
        self.task.waiting_on = None;
        self.enter(TaskState::Queued, action);
        self.send(OutboxTopic::Dispatch);
    }

    /// A fresh start: what was journalled for the run that ended does not bind the next one. The ledger still does.
    fn start_afresh(&mut self) {
        self.task.epoch += 1;
    }

    fn wait_and_retry(&mut self, retry_after_ms: Option<u64>, action: &'static str) {
        let delay = backoff(self.task.retries, self.cx.chance)
            .max(Duration::from_millis(retry_after_ms.unwrap_or(0)).min(Duration::from_secs(3600)));
        self.task.retries += 1;
        self.task.run_after = Some(self.cx.now.plus(delay));
        self.start_afresh();
        self.enter(TaskState::RetryWait, action);
    }

    fn fail(&mut self, failure: Failure, skill: &SkillRef) {
        self.detail = json!({ "failure": failure, "skill": skill.to_string() });
        self.task.failure = Some(failure.clone());
        self.task.outcome = None;
        match failure.kind {
            FailureKind::Transient if self.task.retries < MAX_RETRIES => {
                self.wait_and_retry(failure.retry_after_ms, "task.retry_scheduled");
            }
            FailureKind::Transient | FailureKind::InvalidInput | FailureKind::Permanent => self.give_up("task.failed"),
            FailureKind::Poison => self.give_up("task.poisoned"),
            FailureKind::Denied if failure.code == codes::REFUSED => self.enter(TaskState::Rejected, "task.rejected"),
            FailureKind::Denied => {
                let payload = json!({ "failure": failure, "skill": skill });
                self.ask(
                    ApprovalKind::Denied,
                    "Grant what is missing and run the task again?",
                    &failure.message,
                    payload,
                    "task.denied",
                );
            }
            FailureKind::Security => {
                self.change.write(Write::SetSkillState(skill.clone(), SkillState::Suspended));
                let payload = json!({ "failure": failure, "skill": skill });
                self.ask(
                    ApprovalKind::Security,
                    "Lift the suspension of this skill version?",
                    &failure.message,
                    payload,
                    "task.security_violation",
                );
            }
        }
    }

    /// Final for the task; the planner may find another way for its step.
    fn give_up(&mut self, action: &'static str) {
        self.enter(TaskState::Failed, action);
        if self.task.step.is_some() {
            self.send(OutboxTopic::Replan);
        }
    }

    fn park(&mut self, approval: ApprovalId, action: &'static str) {
        self.task.waiting_on = Some(approval);
        self.review = ReviewStatus::Pending;
        if let Some(map) = self.detail.as_object_mut() {
            map.insert("approval".to_owned(), json!(approval));
        }
        self.enter(TaskState::AwaitingApproval, action);
    }

    fn ask(&mut self, kind: ApprovalKind, title: &str, reason: &str, payload: Value, action: &'static str) {
        let approval = Approval::about_task(kind, &self.task, title, reason, payload, self.cx);
        let id = approval.id;
        self.change.write(Write::PutApproval(approval));
        self.park(id, action);
    }

    fn expire_lease(&mut self, cause: LeaseEnd) {
        self.task.lease = None;
        match cause {
            LeaseEnd::WorkerLost => self.task.deaths += 1,
            LeaseEnd::HostRestarted => self.task.restarts += 1,
            LeaseEnd::HostStopped => {}
        }
        let (deaths, restarts) = (self.task.deaths, self.task.restarts);
        self.detail = json!({ "deaths": deaths, "restarts": restarts });
        if deaths >= MAX_DEATHS {
            self.poison(&format!("{deaths} workers died on this task"));
        } else if restarts >= MAX_RESTARTS {
            self.poison(&format!("the host ended without notice {restarts} times while this task ran"));
        } else {
            self.requeue("task.lease_expired");
        }
    }

    fn poison(&mut self, what: &str) {
        let again = if self.task.campaign.is_some() { "replay it" } else { "assign it again, with a new id," };
        let message = format!("{what}; {again} by hand when the cause is found");
        self.task.failure = Some(Failure::new(FailureKind::Poison, codes::POISON, message));
        self.give_up("task.poisoned");
    }

    fn judge(&mut self, verdict: Verdict) {
        self.detail = json!({ "decision": verdict.decision, "reason": verdict.reason, "took_ms": verdict.took_ms });
        match verdict.decision {
            Decision::Approve => {
                self.review = ReviewStatus::None;
                self.enter(TaskState::Approved, "task.approved");
            }
            Decision::Reject => self.enter(TaskState::Rejected, "task.rejected"),
            Decision::Retry if self.task.retries < MAX_RETRIES => self.wait_and_retry(None, "task.retry_scheduled"),
            Decision::Retry | Decision::Replan => {
                let why = verdict.reason.clone();
                self.task.failure = Some(Failure::new(FailureKind::Permanent, codes::INSUFFICIENT, why));
                self.give_up("task.failed");
            }
            Decision::Escalate => {
                let payload = json!({ "outcome": self.task.outcome, "verdict": verdict });
                self.ask(ApprovalKind::Verdict, "Accept this outcome?", &verdict.reason, payload, "task.escalated");
            }
        }
        self.task.verdict = Some(verdict);
    }

    fn answer(
        &mut self,
        approval: &Approval,
        answer: &Answer,
        effect: Option<Effect>,
        skill: &SkillRef,
    ) -> Result<(), Refused> {
        if self.task.waiting_on != Some(approval.id) || approval.state != ApprovalState::Open {
            return Err(Refused::NoArrow {
                state: self.task.state,
                event: "answered for a question it does not wait for",
            });
        }
        let decided = approval.decided(answer, self.cx);
        self.change.guard(Guard::ApprovalOpen(approval.id));
        self.change.write(Write::PutApproval(decided));
        self.task.waiting_on = None;
        self.detail =
            json!({ "approval": approval.id, "kind": approval.kind, "decision": answer.decision, "note": answer.note });
        self.review = match answer.decision {
            HumanDecision::Reject => ReviewStatus::Rejected,
            HumanDecision::Approve | HumanDecision::Retry => ReviewStatus::Approved,
        };
        if let Some(effect) = effect {
            let (id, before) = (effect.id, effect.state);
            if let Some(settled) = settle_effect(effect, approval, answer, self.cx) {
                self.change.guard(Guard::EffectIs(id, before));
                self.change.write(Write::PutEffect(settled));
            }
        }
        match (answer.decision, approval.kind) {
            (HumanDecision::Reject, _) => {
                self.task.failure = Some(Failure::new(FailureKind::Denied, codes::REFUSED, "a human rejected it"));
                self.enter(TaskState::Rejected, "task.rejected");
            }
            (HumanDecision::Approve, ApprovalKind::Verdict) => self.enter(TaskState::Approved, "task.approved"),
            (HumanDecision::Approve, ApprovalKind::Security) => {
                self.change.write(Write::SetSkillState(skill.clone(), SkillState::Active));
                self.start_afresh();
                self.requeue("task.resumed");
            }
            (HumanDecision::Approve, _) if approval.effect.is_some() => self.requeue("task.resumed"),
            (HumanDecision::Approve | HumanDecision::Retry, _) => {
                self.start_afresh();
                self.requeue("task.resumed");
            }
        }
        Ok(())
    }
}

/// What a human's decision means for the effect in the ledger; none if it changes nothing.
///
/// Also for a question that its task does not wait for at the moment (two effects asked for at once).
pub fn settle_effect(mut effect: Effect, approval: &Approval, answer: &Answer, cx: &Context<'_>) -> Option<Effect> {
    // The outcome came in while the human was thinking: what is known to have happened is not sent again.
    if effect.state == EffectState::Done {
        return None;
    }
    effect.updated_at = cx.now;
    effect.approval = Some(approval.id);
    match (answer.decision, approval.kind) {
        (HumanDecision::Reject, _) => effect.state = EffectState::Refused,
        (HumanDecision::Retry, ApprovalKind::UnknownEffect) => return None,
        (HumanDecision::Retry, _) => effect.state = EffectState::NotDone,
        (HumanDecision::Approve, ApprovalKind::UnknownEffect) => match &answer.edited {
            Some(told) => {
                effect.answer = Some(crate::ports::ToolAnswer::told_by_human(told.clone()));
                effect.state = EffectState::Done;
            }
            None => effect.state = EffectState::Gated,
        },
        (HumanDecision::Approve, _) => {
            if let Some(edited) = &answer.edited {
                effect.arguments = edited.clone();
            }
        }
    }
    Some(effect)
}

fn event_name(event: &TaskEvent) -> &'static str {
    match event {
        TaskEvent::Enqueued => "queued",
        TaskEvent::Leased { .. } => "leased",
        TaskEvent::Heartbeat { .. } => "kept alive",
        TaskEvent::Finished { .. } => "finished",
        TaskEvent::Failed { .. } => "failed",
        TaskEvent::Suspended { .. } => "suspended",
        TaskEvent::Diverged { .. } => "diverged",
        TaskEvent::LeaseExpired { .. } => "taken from its worker",
        TaskEvent::RetryDue => "retried",
        TaskEvent::Judged { .. } => "judged",
        TaskEvent::Answered { .. } => "answered",
        TaskEvent::Cancelled { .. } => "cancelled",
    }
}

/// Exponential backoff with full jitter: uniform in 0..min(cap, base · 2^retries) (Brooker, "Exponential Backoff And
/// Jitter", AWS Architecture Blog, 2015). `chance` is uniform in 0..1.
pub fn backoff(retries: u32, chance: f64) -> Duration {
    let ceiling = BACKOFF_BASE.saturating_mul(2_u32.saturating_pow(retries.min(16))).min(BACKOFF_CAP);
    ceiling.mul_f64(chance.clamp(0.0, 1.0))
}
