//! The scheduler: the one place where agents turn what happened into a change of the truth.
//!
//! It reads, asks [`chimera_core::machine`] and [`chimera_core::campaign`] what follows, and commits all of it at once; a
//! stale change is decided anew. It runs no skill and judges nothing. Called by the API, the workers, the judge, the
//! humans' answers and its own loops.

use super::campaign_file::NewCampaign;
use super::decomposer::Decomposer;
use crate::error::AgentError;
use chimera_core::approval::{Approval, ApprovalKind, ApprovalState};
use chimera_core::audit::{Actor, AuditDraft};
use chimera_core::campaign::{Campaign, CampaignState, CampaignView, advance};
use chimera_core::change::{Change, Committed, Context, Guard, Outbox, OutboxTopic, Write};
use chimera_core::clock::{Clock, Timestamp};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::{AgentId, ApprovalId, CampaignId, IdSource, LineageId, OutboxId, StepId, TaskId};
use chimera_core::machine::{TaskEvent, transition};
use chimera_core::plan::{Plan, Question, Step, StepState};
use chimera_core::ports::{ApprovalFilter, Queue, Truth, WaitingTask};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Task, TaskState};
use chimera_core::text::printable;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often a stale change is decided anew before it is given up.
pub(crate) const MAX_TRIES: u32 = 32;

/// After how long an agent that takes work is written down as seen again.
const SEEN_AGAIN: Duration = Duration::from_secs(1);
/// Agents of which it is remembered when that was.
const MOST_SEEN: usize = 4096;

/// What a scheduler works with.
#[derive(Clone)]
pub struct SchedulerDeps {
    /// The truth.
    pub truth: Arc<dyn Truth>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where new ids come from.
    pub ids: Arc<dyn IdSource>,
    /// What makes plans.
    pub decomposer: Decomposer,
    /// The shard.
    pub planner_id: String,
    /// Where its tasks are leased.
    pub leases: Leases,
}

/// Where the tasks of a truth are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// In this process only: whoever waits for a lease is told of it.
    Here,
    /// Also in others: whoever waits for a lease also looks.
    Anywhere,
}

/// Who gives the verdict on what this process's own workers report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdicts {
    /// The reporter, in the change that reports, where the checks are a moment's work; else the judge's loop.
    #[default]
    WithReport,
    /// The judge's loop, here or in another process.
    Apart,
}

/// Turns events into commits. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) deps: SchedulerDeps,
    pub(super) wakes: Wakes,
    /// Up to where the queue was filled from the truth; none when it is to be begun anew.
    pub(super) redriven: Mutex<Option<WaitingTask>>,
    verdicts: Verdicts,
    /// When agents were written down as seen.
    seen: Mutex<HashMap<AgentId, Timestamp>>,
    lease_waiters: Mutex<HashMap<TaskId, Vec<oneshot::Sender<AgentId>>>>,
}

/// What wakes the loops before their poll comes round.
#[derive(Default)]
pub(crate) struct Wakes {
    pub(crate) plan: Notify,
    pub(crate) replan: Notify,
    pub(crate) relay: Notify,
    pub(crate) judge: Notify,
    /// Something was put on the queue, or a worker became free.
    pub(crate) queue: Notify,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("planner_id", &self.inner.deps.planner_id).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler; it does nothing by itself until its loops are started.
    pub fn new(deps: SchedulerDeps) -> Self {
        Self::with_verdicts(deps, Verdicts::default())
    }

    /// As [`Scheduler::new`], saying who gives the verdicts.
    pub fn with_verdicts(deps: SchedulerDeps, verdicts: Verdicts) -> Self {
        let inner = Inner {
            deps,
            wakes: Wakes::default(),
            redriven: Mutex::default(),
            verdicts,
            seen: Mutex::default(),
            lease_waiters: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who gives the verdict on what this process's own workers report.
    pub(crate) fn verdicts(&self) -> Verdicts {
        self.inner.verdicts
    }

    /// The truth.
    pub fn truth(&self) -> &Arc<dyn Truth> {
        &self.inner.deps.truth
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.deps.clock
    }

    /// Where new ids come from.
    pub fn ids(&self) -> &Arc<dyn IdSource> {
        &self.inner.deps.ids
    }

    /// The shard.
    pub fn planner_id(&self) -> &str {
        &self.inner.deps.planner_id
    }

    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.inner.deps.queue
    }

    pub(crate) fn decomposer(&self) -> &Decomposer {
        &self.inner.deps.decomposer
    }

    pub(crate) fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }

    pub(crate) fn context(&self, actor: Actor) -> Context<'_> {
        Context { now: self.clock().now(), ids: self.ids().as_ref(), actor, chance: rand::random::<f64>() }
    }

    /// Commits a change and does what follows in memory.
    pub(crate) async fn commit(&self, change: Change) -> Result<CommitResult, AgentError> {
        let changed: Vec<SkillRef> = change
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::SetSkillState(skill, _) => Some(skill.clone()),
                _ => None,
            })
            .collect();
        match self.truth().commit(change).await? {
            Committed::Applied => {
                for skill in &changed {
                    self.reindex(skill).await;
                }
                Ok(CommitResult::Applied)
            }
            Committed::Stale(guard) => Ok(CommitResult::Stale(guard)),
        }
    }

    /// The index follows the truth; nothing is chosen by it alone, so a failure here costs only a worse ranking.
    async fn reindex(&self, skill: &SkillRef) {
        let done = match self.truth().skills(Some(&skill.name)).await {
            Ok(versions) => match versions.iter().find(|version| version.skill == *skill) {
                Some(version) => self.decomposer().index().put(version).await,
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%skill, %error, "the skill index could not be told of a changed state");
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Tasks

    /// Moves a task, and its campaign with it, in one change.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the event does not fit (fenced off, final, decided); `Unavailable`.
    pub async fn apply(&self, task: TaskId, event: TaskEvent, actor: Actor) -> Result<Task, AgentError> {
        self.apply_with(task, event, &Change::new(), actor).await
    }

    /// As [`Scheduler::apply`], with further guards and writes in the same change. It is waited for until it is on disk,
    /// unless neither the event nor what is further done need it.
    ///
    /// # Errors
    /// As [`Scheduler::apply`]; `Conflict` also when one of the further guards does not hold.
    pub async fn apply_with(
        &self,
        task: TaskId,
        event: TaskEvent,
        extra: &Change,
        actor: Actor,
    ) -> Result<Task, AgentError> {
        for attempt in 0..MAX_TRIES {
            match self.try_apply(task, event.clone(), extra, actor.clone()).await? {
                Tried::Done(task) => return Ok(*task),
                Tried::Stale(guard) if extra.guards.contains(&guard) => return Err(stale(&guard)),
                Tried::Stale(_) => pause(attempt).await,
            }
        }
        Err(AgentError::Unavailable(format!("task {task} changes too often to be changed; try again")))
    }

    /// One try: a stale change is the caller's to decide anew.
    pub(crate) async fn try_apply(
        &self,
        id: TaskId,
        event: TaskEvent,
        extra: &Change,
        actor: Actor,
    ) -> Result<Tried, AgentError> {
        let task = self.task(id).await?;
        let cx = self.context(actor);
        let durability = event.durability();
        let (next, mut change) = transition(&task, event, &cx)?;
        change.extend(extra.clone());
        change.durability = durability.and(extra.durability);
        self.commit_move(task.state, next, change, &cx).await
    }

    /// Commits a move of a task that was in `before`, with what follows from it for its questions and its campaign.
    pub(crate) async fn commit_move(
        &self,
        before: TaskState,
        next: Task,
        mut change: Change,
        cx: &Context<'_>,
    ) -> Result<Tried, AgentError> {
        if next.state.is_final() {
            self.close_effect_questions(&next, &mut change, cx).await?;
        }
        // A failed task keeps its step active until the planner moves it on; every other end may move the campaign.
        let carries_on = next.state.is_final() && next.state != TaskState::Failed;
        if let Some(campaign) = next.campaign.filter(|_| carries_on)
            && let Some(mut view) = self.truth().campaign_view(campaign).await?
        {
            view.put_task(next.clone());
            self.advance(&mut view, &mut change, cx).await?;
        }
        match self.commit(change).await? {
            CommitResult::Applied => {
                if before != TaskState::Running {
                    self.tell_if_leased(&next);
                }
                Ok(Tried::Done(Box::new(next)))
            }
            CommitResult::Stale(guard) => Ok(Tried::Stale(guard)),
        }
    }

    /// Carries a campaign forward, and closes its open questions when that ends it.
    pub(crate) async fn advance(
        &self,
        view: &mut CampaignView,
        change: &mut Change,
        cx: &Context<'_>,
    ) -> Result<(), AgentError> {
        advance(view, change, cx);
        if view.campaign.state.is_final() {
            self.close_questions(view.campaign.id, change, cx).await?;
        }
        Ok(())
    }

    /// An effect of a task that is over is not sent, so nobody is to be asked about it any more: a question left open
    /// would be answered in vain, and a later task of the same step would wait for it without being woken.
    async fn close_effect_questions(
        &self,
        task: &Task,
        change: &mut Change,
        cx: &Context<'_>,
    ) -> Result<(), AgentError> {
        // A task asks only by stopping, so what succeeds at first has asked nothing.
        if task.state == TaskState::Approved && task.attempt <= 1 {
            return Ok(());
        }
        let decided = approvals_in(change);
        for effect in self.truth().effects(task.lineage).await? {
            let Some(id) = effect.approval.filter(|id| !decided.contains(id)) else { continue };
            let asked = self.truth().approval(id).await?;
            if let Some(asked) = asked.filter(|asked| asked.state == ApprovalState::Open && asked.task == Some(task.id))
            {
                close(asked, "the task is over", change, cx);
            }
        }
        Ok(())
    }

    /// Nobody needs the answers of a campaign that is over.
    pub(crate) async fn close_questions(
        &self,
        campaign: CampaignId,
        change: &mut Change,
        cx: &Context<'_>,
    ) -> Result<(), AgentError> {
        let decided = approvals_in(change);
        let filter = ApprovalFilter { campaign: Some(campaign), state: Some(ApprovalState::Open), due_before: None };
        for approval in self.truth().approvals(&filter).await? {
            if !decided.contains(&approval.id) {
                close(approval, "the campaign is over", change, cx);
            }
        }
        Ok(())
    }

    pub(crate) async fn task(&self, id: TaskId) -> Result<Task, AgentError> {
        self.truth().task(id).await?.ok_or_else(|| AgentError::NotFound(format!("there is no task {id}")))
    }

    pub(crate) async fn view(&self, id: CampaignId) -> Result<CampaignView, AgentError> {
        let view = self.truth().campaign_view(id).await?;
        view.ok_or_else(|| AgentError::NotFound(format!("there is no campaign {id}")))
    }

    /// Hears which worker leases the task next.
    pub(super) fn when_leased(&self, task: TaskId) -> oneshot::Receiver<AgentId> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.inner.lease_waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.entry(task).or_default().push(sender);
        receiver
    }

    pub(super) fn stop_waiting(&self, task: TaskId) {
        let mut waiters = self.inner.lease_waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = waiters.get_mut(&task) {
            list.retain(|sender| !sender.is_closed());
            if list.is_empty() {
                waiters.remove(&task);
            }
        }
    }

    /// Is an agent that takes work to be written down as seen? Once a second is enough for whoever looks at it.
    pub(super) fn is_seen_anew(&self, agent: AgentId, now: Timestamp) -> bool {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Strangers' agents come and go.
        if seen.len() > MOST_SEEN {
            seen.clear();
        }
        match seen.insert(agent, now) {
            Some(last) if now.since(last) < SEEN_AGAIN && last <= now => {
                seen.insert(agent, last);
                false
            }
            _ => true,
        }
    }

    /// Tells whoever waits for it which worker has leased the task.
    pub(super) fn tell_if_leased(&self, task: &Task) {
        let Some(lease) = &task.lease else { return };
        let mut waiters = self.inner.lease_waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in waiters.remove(&task.id).unwrap_or_default() {
            let _ = sender.send(lease.worker);
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Campaigns

    /// Makes a campaign; the planner loop plans it. Explicit steps are checked against what is installed at once.
    ///
    /// # Errors
    /// `Invalid` naming the field and the mend; `Unavailable`.
    pub async fn create_campaign(&self, new: NewCampaign, actor: Actor) -> Result<Campaign, AgentError> {
        new.validate()?;
        if let Some(steps) = &new.explicit {
            self.decomposer().check_explicit(steps, &new.inputs).await.map_err(|failure| match failure.kind {
                FailureKind::Transient => AgentError::Unavailable(failure.message),
                _ => AgentError::Invalid(failure.message),
            })?;
        }
        let cx = self.context(actor);
        let campaign = Campaign {
            id: CampaignId::new(cx.ids),
            title: printable(&new.title()),
            explicit: new.explicit_value(),
            goal: new.goal,
            state: CampaignState::Planning,
            inputs: new.inputs,
            answers: serde_json::Map::new(),
            questions: Vec::new(),
            policy: new.policy,
            planner_id: self.planner_id().to_owned(),
            plan_ms: None,
            failure: None,
            rev: 0,
            created_at: cx.now,
            updated_at: cx.now,
            finished_at: None,
        };
        let mut change = Change::new();
        change.audit(
            cx.event("campaign.created").about(Some(campaign.id), None).detail(json!({ "title": campaign.title })),
        );
        change.write(Write::PutOutbox(Outbox::for_campaign(OutboxTopic::Plan, &campaign, &cx)));
        change.writes.insert(0, Write::PutCampaign(campaign.clone()));
        match self.commit(change).await? {
            CommitResult::Applied => Ok(campaign),
            CommitResult::Stale(guard) => Err(stale(&guard)),
        }
    }

    /// Stops a campaign: every task that is not final is cancelled, every open question closed.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is over already; `Unavailable`.
    pub async fn cancel_campaign(&self, id: CampaignId, reason: &str, actor: Actor) -> Result<Campaign, AgentError> {
        for attempt in 0..MAX_TRIES {
            let mut view = self.view(id).await?;
            if view.campaign.state.is_final() {
                let state = view.campaign.state.as_str();
                return Err(AgentError::Conflict(format!("campaign {id} is {state} already")));
            }
            let cx = self.context(actor.clone());
            let mut change = Change::new();
            for task in view.tasks.iter().filter(|task| !task.state.is_final()) {
                let (_, cancelled) = transition(task, TaskEvent::Cancelled { reason: reason.to_owned() }, &cx)?;
                change.extend(cancelled);
            }
            for step in
                view.steps.iter_mut().filter(|step| matches!(step.state, StepState::Waiting | StepState::Active))
            {
                step.state = StepState::Cancelled;
                change.write(Write::PutStep(step.clone()));
            }
            let event =
                cx.event("campaign.cancelled").about(Some(view.campaign.id), None).detail(json!({ "reason": reason }));
            self.end_campaign(&mut view.campaign, CampaignState::Cancelled, event, &mut change, &cx).await?;
            match self.commit(change).await? {
                CommitResult::Applied => return Ok(view.campaign),
                CommitResult::Stale(_) => pause(attempt).await,
            }
        }
        Err(AgentError::Unavailable(format!("campaign {id} changes too often to be stopped; try again")))
    }

    /// Writes the end of a campaign that did not come from its steps.
    pub(crate) async fn end_campaign(
        &self,
        campaign: &mut Campaign,
        state: CampaignState,
        event: AuditDraft,
        change: &mut Change,
        cx: &Context<'_>,
    ) -> Result<(), AgentError> {
        change.guard(Guard::CampaignRev(campaign.id, campaign.rev));
        campaign.state = state;
        campaign.rev += 1;
        campaign.updated_at = cx.now;
        campaign.finished_at = Some(cx.now);
        change.write(Write::PutCampaign(campaign.clone()));
        change.audit(event);
        self.close_questions(campaign.id, change, cx).await
    }

    /// Takes a plan over: steps, questions, and the tasks of the steps that can begin, all in one change with `extra`.
    /// A plan of questions alone leaves the campaign in planning; it is planned again when they are answered.
    ///
    /// # Errors
    /// `Conflict` when the campaign is no longer in planning or changed since it was read; `Unavailable`.
    pub async fn accept_plan(
        &self,
        campaign: &Campaign,
        plan: Plan,
        plan_ms: u64,
        extra: Change,
    ) -> Result<(), AgentError> {
        if campaign.state != CampaignState::Planning {
            return Err(AgentError::Conflict(format!("campaign {} is planned already", campaign.id)));
        }
        let cx = self.context(Actor::Planner);
        let mut change = extra;
        let mut campaign = campaign.clone();
        campaign.questions.clone_from(&plan.questions);
        campaign.plan_ms = Some(campaign.plan_ms.unwrap_or(0) + plan_ms);
        for question in &plan.questions {
            change.write(Write::PutApproval(question_approval(&campaign, question, &cx)));
        }
        let reasons: Vec<_> = plan
            .steps
            .iter()
            .map(|step| json!({ "step": step.key, "skill": step.skill.to_string(), "reason": step.reason }))
            .collect();
        let detail = json!({ "plan_ms": plan_ms, "steps": reasons, "questions": plan.questions.len() });
        if plan.steps.is_empty() {
            change.audit(cx.event("campaign.asked").about(Some(campaign.id), None).detail(detail));
            change.guard(Guard::CampaignRev(campaign.id, campaign.rev));
            campaign.rev += 1;
            campaign.updated_at = cx.now;
            change.write(Write::PutCampaign(campaign));
        } else {
            change.audit(cx.event("campaign.planned").about(Some(campaign.id), None).detail(detail));
            campaign.state = CampaignState::Running;
            let steps = new_steps(&campaign, plan, &cx);
            change.writes.extend(steps.iter().cloned().map(Write::PutStep));
            let mut view = CampaignView { campaign, steps, tasks: Vec::new() };
            self.advance(&mut view, &mut change, &cx).await?;
        }
        match self.commit(change).await? {
            CommitResult::Applied => Ok(()),
            CommitResult::Stale(guard) => Err(stale(&guard)),
        }
    }

    /// Ends a campaign for which no plan could be made.
    ///
    /// # Errors
    /// `Conflict` when it changed since it was read; `Unavailable`.
    pub async fn refuse_plan(&self, campaign: &Campaign, failure: Failure, extra: Change) -> Result<(), AgentError> {
        let cx = self.context(Actor::Planner);
        let mut change = extra;
        let mut campaign = campaign.clone();
        let event = cx.event("campaign.failed").about(Some(campaign.id), None).detail(json!({ "failure": failure }));
        campaign.failure = Some(failure);
        self.end_campaign(&mut campaign, CampaignState::Failed, event, &mut change, &cx).await?;
        match self.commit(change).await? {
            CommitResult::Applied => Ok(()),
            CommitResult::Stale(guard) => Err(stale(&guard)),
        }
    }
}

/// What became of one try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// Durable; the task as it is now.
    Done(Box<Task>),
    /// Nothing was written.
    Stale(Guard),
}

/// What became of a commit.
#[derive(Debug, PartialEq)]
pub(crate) enum CommitResult {
    /// Durable.
    Applied,
    /// Nothing was written.
    Stale(Guard),
}

/// The change that takes a relayed row off the outbox; stale when somebody else did before.
pub(crate) fn done_with(row: OutboxId) -> Change {
    let mut change = Change::new();
    change.guard(Guard::OutboxPresent(row));
    change.write(Write::DeleteOutbox(row));
    change
}

pub(crate) fn stale(guard: &Guard) -> AgentError {
    AgentError::Conflict(format!("somebody else was faster ({guard:?} no longer holds); look again"))
}

/// The questions that a change decides or asks.
fn approvals_in(change: &Change) -> BTreeSet<ApprovalId> {
    let written = change.writes.iter().filter_map(|write| match write {
        Write::PutApproval(approval) => Some(approval.id),
        _ => None,
    });
    written.collect()
}

/// Closes an open question that nobody needs an answer to.
fn close(approval: Approval, why: &str, change: &mut Change, cx: &Context<'_>) {
    change.guard(Guard::ApprovalOpen(approval.id));
    change.write(Write::PutApproval(Approval {
        state: ApprovalState::Cancelled,
        decided_by: Some(cx.actor.clone()),
        decided_at: Some(cx.now),
        note: Some(why.to_owned()),
        ..approval
    }));
}

/// A short, jittered pause before a stale change is decided anew.
pub(crate) async fn pause(attempt: u32) {
    let ceiling = 2.0 * f64::from(attempt.min(16) + 1);
    tokio::time::sleep(Duration::from_micros((rand::random::<f64>() * ceiling * 1000.0) as u64)).await;
}

fn question_approval(campaign: &Campaign, question: &Question, cx: &Context<'_>) -> Approval {
    let payload = json!({ "key": question.key, "step": question.step, "schema": question.schema });
    let reason = match &question.step {
        Some(step) => format!("step `{step}` cannot begin without it"),
        None => "the goal cannot be planned without it".to_owned(),
    };
    Approval {
        campaign: Some(campaign.id),
        ..Approval::open(ApprovalKind::Question, question.text.clone(), reason, payload, cx)
    }
}

fn new_steps(campaign: &Campaign, plan: Plan, cx: &Context<'_>) -> Vec<Step> {
    plan.steps
        .into_iter()
        .zip(0_u32..)
        .map(|(planned, position)| Step {
            id: StepId::new(cx.ids),
            campaign: campaign.id,
            lineage: LineageId::new(cx.ids),
            planned,
            state: StepState::Waiting,
            task: None,
            replans: 0,
            position,
        })
        .collect()
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
