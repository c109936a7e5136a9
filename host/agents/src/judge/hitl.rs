//! Human in the loop: takes a human's answer to an open question and turns it into what follows; and what follows when
//! nobody answers.
//!
//! A question is decided once. Time never approves: an expired question escalates or is rejected, as the campaign says.
//! It sends no effect itself: an approved one goes out when its task runs again. Called by the API, the CLI and a loop.

use crate::error::{AgentError, AgentErrorKind};
use crate::planner::scheduler::{CommitResult, Scheduler, Tried, pause};
use crate::planner::stuck_step;
use crate::runner::Turn;
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision, OnExpiry};
use chimera_core::audit::{Actor, AuditDraft, ReviewStatus};
use chimera_core::campaign::{CampaignState, start_step};
use chimera_core::change::{Change, Context, Guard, Outbox, OutboxTopic, Write};
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::ApprovalId;
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::machine::{TaskEvent, settle_effect};
use chimera_core::plan::StepState;
use chimera_core::ports::ApprovalFilter;
use chimera_core::skill::SkillRef;
use chimera_core::task::{Task, TaskState};
use chimera_core::template::Reference;
use chimera_core::text::truncated;
use chimera_registry::{ConsentError, Registry, check_value_soon};
use serde_json::{Value, json};
use std::sync::Arc;

/// How often a stale decision is made anew.
const MAX_TRIES: u32 = 32;
/// Largest `edited` of an answer, as JSON text.
pub const MAX_EDITED_BYTES: usize = 1024 * 1024;
/// Longest note in bytes.
pub const MAX_NOTE_BYTES: usize = 4096;

/// Takes human answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hitl {
    scheduler: Scheduler,
    registry: Arc<Registry>,
}

impl Hitl {
    /// Answers go to this scheduler; consent to a skill's version goes to the registry.
    pub fn new(scheduler: Scheduler, registry: Arc<Registry>) -> Self {
        Self { scheduler, registry }
    }

    /// Decides an open question and does what follows, in one change. Returns it as it is now.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` naming who decided and when, if somebody did; `Invalid` when the answer does not fit the
    /// question (the message says what would); `Unavailable`.
    pub async fn decide(&self, id: ApprovalId, answer: Answer, actor: Actor) -> Result<Approval, AgentError> {
        let mut answer = answer;
        answer.note = answer.note.map(|note| truncated(note, MAX_NOTE_BYTES));
        for attempt in 0..MAX_TRIES {
            let approval = self.open(id).await?;
            check_answer(&approval, &answer).await?;
            let decided = match approval.kind {
                ApprovalKind::Consent => self.consent(&approval, &answer, actor.clone()).await?,
                ApprovalKind::Question => self.question(&approval, &answer, actor.clone()).await?,
                ApprovalKind::Stuck => self.stuck(&approval, &answer, actor.clone()).await?,
                ApprovalKind::Effect
                | ApprovalKind::Verdict
                | ApprovalKind::Denied
                | ApprovalKind::Divergence
                | ApprovalKind::UnknownEffect
                | ApprovalKind::Security => self.about_task(&approval, &answer, actor.clone()).await?,
            };
            match decided {
                Decided::Done => return self.read(id).await,
                Decided::Stale => pause(attempt).await,
            }
        }
        Err(AgentError::Unavailable(format!("question {id} could not be decided now; try again")))
    }

    async fn read(&self, id: ApprovalId) -> Result<Approval, AgentError> {
        let found = self.scheduler.truth().approval(id).await?;
        found.ok_or_else(|| AgentError::NotFound(format!("there is no approval {id}")))
    }

    async fn open(&self, id: ApprovalId) -> Result<Approval, AgentError> {
        let approval = self.read(id).await?;
        let what = match approval.state {
            ApprovalState::Open => return Ok(approval),
            ApprovalState::Approved => "approved",
            ApprovalState::Rejected => "rejected",
            ApprovalState::Cancelled => "closed",
        };
        let by = approval.decided_by.map_or_else(|| "the system".to_owned(), |actor| actor.to_string());
        let at = approval.decided_at.map_or_else(String::new, |at| format!(" at {at}"));
        Err(AgentError::Conflict(format!("question {id} was {what} already, by {by}{at}")))
    }

    async fn commit(&self, change: Change) -> Result<Decided, AgentError> {
        match self.scheduler.commit(change).await? {
            CommitResult::Applied => Ok(Decided::Done),
            CommitResult::Stale(_) => Ok(Decided::Stale),
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Questions that a task waits for

    async fn about_task(&self, approval: &Approval, answer: &Answer, actor: Actor) -> Result<Decided, AgentError> {
        let Some(id) = approval.task else { return self.record_only(approval, None, answer, actor).await };
        let task = self.scheduler.task(id).await?;
        if task.state != TaskState::AwaitingApproval || task.waiting_on != Some(approval.id) {
            // Two effects asked for at once: the task waits for one of them, the other is settled in the ledger.
            return self.record_only(approval, Some(&task), answer, actor).await;
        }
        let effect = match approval.effect {
            Some(id) => self.scheduler.truth().effect(id).await?,
            None => None,
        };
        let skill = self.skill_of(approval, &task).await?;
        let event = TaskEvent::Answered { approval: approval.clone(), answer: answer.clone(), effect, skill };
        match self.scheduler.try_apply(id, event, &Change::new(), actor).await {
            Ok(Tried::Done(_)) => Ok(Decided::Done),
            Ok(Tried::Stale(_)) => Ok(Decided::Stale),
            // It moved between the two reads: look again.
            Err(error) if error.kind() == AgentErrorKind::Conflict => Ok(Decided::Stale),
            Err(error) => Err(error),
        }
    }

    /// The version that is lifted from suspension: the one that the question names, else the task's own.
    async fn skill_of(&self, approval: &Approval, task: &Task) -> Result<SkillRef, AgentError> {
        let named = approval.payload.get("skill").cloned().and_then(|skill| serde_json::from_value(skill).ok());
        match named {
            Some(skill) => Ok(skill),
            None => Ok(self.scheduler.spec_of(task).await?.skill),
        }
    }

    /// Decides a question that no task waits for at the moment; the ledger learns of it all the same. `seen` is the task
    /// as it was when it did not wait: had it been read again here, it could have begun to wait in between, and nobody
    /// would ever wake it.
    async fn record_only(
        &self,
        approval: &Approval,
        seen: Option<&Task>,
        answer: &Answer,
        actor: Actor,
    ) -> Result<Decided, AgentError> {
        let cx = self.scheduler.context(actor);
        let mut change = decision(approval, answer, &cx);
        if let Some(id) = approval.effect
            && let Some(effect) = self.scheduler.truth().effect(id).await?
        {
            let before = effect.state;
            if let Some(settled) = settle_effect(effect, approval, answer, &cx) {
                change.guard(Guard::EffectIs(id, before));
                change.write(Write::PutEffect(settled));
            }
        }
        // The task may begin to wait for it right now: then its own change goes first, and this one is made anew.
        if let Some(task) = seen {
            change.guard(Guard::TaskRev(task.id, task.rev));
        }
        self.commit(change).await
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The planner's questions

    async fn question(&self, approval: &Approval, answer: &Answer, actor: Actor) -> Result<Decided, AgentError> {
        let Some(campaign) = approval.campaign else { return self.record_only(approval, None, answer, actor).await };
        let cx = self.scheduler.context(actor);
        let mut view = self.scheduler.view(campaign).await?;
        let key = approval.payload.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut change = decision(approval, answer, &cx);
        if view.campaign.state.is_final() {
            return self.commit(change).await;
        }
        match (&answer.edited, answer.decision) {
            (Some(value), HumanDecision::Approve) => {
                view.campaign.answers.insert(key, value.clone());
                if view.campaign.state == CampaignState::Planning {
                    self.plan_again(&mut view.campaign, &mut change, &cx);
                    return self.commit(change).await;
                }
            }
            _ => {
                let message = format!("a human did not answer: {}", approval.title);
                view.campaign.failure = Some(Failure::new(FailureKind::Denied, codes::REFUSED, message));
                if view.campaign.state == CampaignState::Planning {
                    let detail = json!({ "failure": view.campaign.failure });
                    let event = cx.event("campaign.failed").about(Some(view.campaign.id), None).detail(detail);
                    let state = CampaignState::Failed;
                    self.scheduler.end_campaign(&mut view.campaign, state, event, &mut change, &cx).await?;
                    return self.commit(change).await;
                }
                let wants = |reference: &Reference| matches!(reference, Reference::Answer(wanted) if *wanted == key);
                for step in view.steps.iter_mut().filter(|step| step.state == StepState::Waiting) {
                    if step.planned.input.references().iter().any(wants) {
                        step.state = StepState::Failed;
                        change.write(Write::PutStep(step.clone()));
                    }
                }
            }
        }
        self.scheduler.advance(&mut view, &mut change, &cx).await?;
        self.commit(change).await
    }

    /// The last answer that the planner waited for lets it plan again.
    fn plan_again(&self, campaign: &mut chimera_core::campaign::Campaign, change: &mut Change, cx: &Context<'_>) {
        change.guard(Guard::CampaignRev(campaign.id, campaign.rev));
        campaign.rev += 1;
        campaign.updated_at = cx.now;
        if campaign.questions.iter().all(|question| campaign.answers.contains_key(&question.key)) {
            change.write(Write::PutOutbox(Outbox::for_campaign(OutboxTopic::Plan, campaign, cx)));
        }
        change.write(Write::PutCampaign(campaign.clone()));
    }

    async fn stuck(&self, approval: &Approval, answer: &Answer, actor: Actor) -> Result<Decided, AgentError> {
        let Some(id) = approval.task else { return self.record_only(approval, None, answer, actor).await };
        let task = self.scheduler.task(id).await?;
        let Some(campaign) = task.campaign else { return self.record_only(approval, Some(&task), answer, actor).await };
        let cx = self.scheduler.context(actor);
        let mut view = self.scheduler.view(campaign).await?;
        let mut change = decision(approval, answer, &cx);
        let owner = view.campaign.clone();
        let running = owner.state == CampaignState::Running;
        let Some(step) = stuck_step(&mut view, &task).filter(|_| running) else { return self.commit(change).await };
        match answer.decision {
            HumanDecision::Approve | HumanDecision::Retry => {
                let spec = self.scheduler.spec_of(&task).await?;
                let input = answer.edited.clone().unwrap_or(spec.input);
                let next = start_step(&owner, step, input, &mut change, &cx);
                change.write(Write::PutStep(step.clone()));
                view.put_task(next);
            }
            HumanDecision::Reject => {
                step.state = StepState::Failed;
                change.write(Write::PutStep(step.clone()));
                view.campaign.failure = view.campaign.failure.take().or_else(|| task.failure.clone());
            }
        }
        self.scheduler.advance(&mut view, &mut change, &cx).await?;
        self.commit(change).await
    }

    async fn consent(&self, approval: &Approval, answer: &Answer, actor: Actor) -> Result<Decided, AgentError> {
        match self.registry.consent(approval.id, answer, actor).await {
            Ok(_) => Ok(Decided::Done),
            Err(ConsentError::NotOpen(_)) => {
                // Either somebody was faster, which the next look tells, or the question is no question.
                self.open(approval.id).await?;
                Err(AgentError::Invalid(format!("question {} names no skill version", approval.id)))
            }
            Err(error @ ConsentError::RouteMoved(_)) => Err(AgentError::Conflict(error.to_string())),
            Err(error @ ConsentError::NoRetry) => Err(AgentError::Invalid(error.to_string())),
            Err(ConsentError::Host(error)) => Err(error.into()),
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // When nobody answers

    /// One turn: questions past their deadline escalate, or are rejected where the campaign wants that.
    ///
    /// # Errors
    /// `Unavailable` when the truth cannot be asked.
    pub(crate) async fn expiry_turn(&self) -> Result<Turn, AgentError> {
        let now = self.scheduler.clock().now();
        let filter = ApprovalFilter { state: Some(ApprovalState::Open), due_before: Some(now), campaign: None };
        for approval in self.scheduler.truth().approvals(&filter).await? {
            if let Err(error) = self.expire(&approval).await
                && error.kind() != AgentErrorKind::Conflict
            {
                tracing::warn!(approval = %approval.id, %error, "an expired question could not be handled; tried again");
            }
        }
        Ok(Turn::Idle)
    }

    /// Handles every question that is past its deadline now; for tests and for a host that runs without loops.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn expire_due(&self) -> Result<(), AgentError> {
        self.expiry_turn().await.map(|_| ())
    }

    async fn expire(&self, approval: &Approval) -> Result<(), AgentError> {
        let campaign = match approval.campaign {
            Some(id) => self.scheduler.truth().campaign(id).await?,
            None => None,
        };
        match campaign.map(|campaign| campaign.policy.on_expiry).unwrap_or_default() {
            OnExpiry::Reject => {
                let note = Some("nobody answered in time".to_owned());
                let answer = Answer { decision: HumanDecision::Reject, edited: None, note };
                self.decide(approval.id, answer, Actor::System).await.map(|_| ())
            }
            OnExpiry::Escalate => {
                let cx = self.scheduler.context(Actor::System);
                let escalated = approval.escalated(cx.now);
                let detail =
                    json!({ "approval": approval.id, "kind": approval.kind, "escalations": escalated.escalations });
                let mut change = Change::new();
                change.guard(Guard::ApprovalOpen(approval.id));
                change.audit(event(approval, "approval.escalated", ReviewStatus::Expired, detail, &cx));
                change.write(Write::PutApproval(escalated));
                self.commit(change).await.map(|_| ())
            }
        }
    }
}

enum Decided {
    Done,
    Stale,
}

/// The change that every decision begins with.
fn decision(approval: &Approval, answer: &Answer, cx: &Context<'_>) -> Change {
    let mut change = Change::new();
    change.guard(Guard::ApprovalOpen(approval.id));
    change.write(Write::PutApproval(approval.decided(answer, cx)));
    let review = match answer.decision {
        HumanDecision::Reject => ReviewStatus::Rejected,
        HumanDecision::Approve | HumanDecision::Retry => ReviewStatus::Approved,
    };
    let detail =
        json!({ "approval": approval.id, "kind": approval.kind, "decision": answer.decision, "note": answer.note });
    change.audit(event(approval, "approval.decided", review, detail, cx));
    change
}

fn event(
    approval: &Approval,
    action: &'static str,
    review: ReviewStatus,
    detail: Value,
    cx: &Context<'_>,
) -> AuditDraft {
    cx.event(action).about(approval.campaign, approval.task).review(review).detail(detail)
}

/// Does the answer fit the kind of question?
async fn check_answer(approval: &Approval, answer: &Answer) -> Result<(), AgentError> {
    let invalid = |text: String| Err(AgentError::Invalid(text));
    if answer.edited.as_ref().is_some_and(|edited| edited.to_string().len() > MAX_EDITED_BYTES) {
        return invalid(format!("`edited` is larger than {MAX_EDITED_BYTES} bytes"));
    }
    if answer.edited.as_ref().is_some_and(|edited| is_deeper_than(edited, MAX_DEPTH)) {
        return invalid(format!("`edited` is nested deeper than {MAX_DEPTH}: flatten it"));
    }
    match (approval.kind, answer.decision, &answer.edited) {
        (ApprovalKind::Question, HumanDecision::Approve, None) => {
            invalid("this is a question: send the answer in `edited`".to_owned())
        }
        (ApprovalKind::Question, HumanDecision::Approve, Some(value)) => {
            let schema = approval.payload.get("schema").cloned().unwrap_or(Value::Bool(true)).into();
            check_value_soon(&schema, value)
                .await
                .map_err(|problem| AgentError::unfit(problem, "the answer does not fit"))
        }
        (ApprovalKind::Question, HumanDecision::Retry, _) => {
            invalid("a question is answered or rejected; \"retry\" means nothing here".to_owned())
        }
        (ApprovalKind::Effect | ApprovalKind::Stuck, _, Some(edited)) if !edited.is_object() => {
            invalid("`edited` must be a JSON object: the whole of the changed arguments".to_owned())
        }
        (_, HumanDecision::Reject | HumanDecision::Retry, Some(_)) => {
            invalid("`edited` goes with an approval only: leave it out".to_owned())
        }
        (
            ApprovalKind::Verdict
            | ApprovalKind::Denied
            | ApprovalKind::Divergence
            | ApprovalKind::Security
            | ApprovalKind::Consent,
            _,
            Some(_),
        ) => invalid("this kind of question takes no `edited`: approve or reject it as it is".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "hitl_tests.rs"]
mod tests;
