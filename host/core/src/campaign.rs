//! A campaign: one goal, its plan, and the one function that carries it forward.
//!
//! [`advance`] looks at a campaign's steps after something changed and says, as writes, which steps become ready and
//! whether the campaign is over. It is pure: it reads no database and runs nothing. Called by the scheduler inside the
//! same [`Change`] that carries the task's own transition.

use crate::approval::OnExpiry;
use crate::change::{Change, Context, Guard, Outbox, OutboxTopic, Write};
use crate::clock::Timestamp;
use crate::failure::{Failure, FailureKind, codes};
use crate::ids::{CampaignId, SpecId, TaskId};
use crate::plan::{Question, Step, StepState};
use crate::task::{Task, TaskSpec, TaskState, Usage};
use crate::template::Scope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Largest goal in bytes.
pub const MAX_GOAL_BYTES: usize = 64 * 1024;
/// Largest sum of campaign inputs in bytes.
pub const MAX_INPUT_BYTES: usize = 4 * 1024 * 1024;

/// One goal of one owner (a row of `campaigns`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// A short name for lists.
    pub title: String,
    /// The goal, in the owner's words.
    pub goal: String,
    /// Where it is.
    pub state: CampaignState,
    /// What the owner gave along.
    pub inputs: Map<String, Value>,
    /// What humans answered, by question key.
    pub answers: Map<String, Value>,
    /// What the planner still wants to know.
    pub questions: Vec<Question>,
    /// How strict the judge is, and the like.
    pub policy: CampaignPolicy,
    /// The explicit steps of a `campaign.yaml`, as they were given; none when the goal is free text.
    pub explicit: Option<Value>,
    /// The shard that plans it.
    pub planner_id: String,
    /// How long planning took, in milliseconds.
    pub plan_ms: Option<u64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Changes so far.
    pub rev: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Where a campaign is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CampaignState {
    /// The planner has not made a plan yet.
    Planning,
    /// Steps are being done, or wait.
    Running,
    /// Final: every step is done.
    Completed,
    /// Final: a human or the judge rejected a step.
    Rejected,
    /// Final: a step could not be done, or no plan could be made.
    Failed,
    /// Final: the owner stopped it.
    Cancelled,
}

impl CampaignState {
    /// No event changes a final state.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Rejected | Self::Failed | Self::Cancelled)
    }

    /// The state's name on the wire and in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a campaign's owner may set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CampaignPolicy {
    /// At or above: approved without a human. 0 to 1.
    pub approve_at: f64,
    /// Below: run again or replanned instead of asking. 0 to `approve_at`.
    pub retry_below: f64,
    /// What happens to a question nobody answered in time.
    pub on_expiry: OnExpiry,
    /// How often a step may be replanned; at most 5.
    pub max_replans: u32,
}

impl Default for CampaignPolicy {
    fn default() -> Self {
        Self { approve_at: 0.7, retry_below: 0.2, on_expiry: OnExpiry::Escalate, max_replans: 2 }
    }
}

/// A campaign with all its steps and their tasks, as one consistent read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CampaignView {
    /// The campaign.
    pub campaign: Campaign,
    /// Its steps in plan order, superseded ones included.
    pub steps: Vec<Step>,
    /// Their tasks.
    pub tasks: Vec<Task>,
}

impl CampaignView {
    /// The task of that id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Replaces a task by its newer self, so that [`advance`] sees what the same change will write.
    pub fn put_task(&mut self, task: Task) {
        match self.tasks.iter_mut().find(|old| old.id == task.id) {
            Some(old) => *old = task,
            None => self.tasks.push(task),
        }
    }

    /// Outputs of the steps that are done, by key.
    fn outputs(&self) -> BTreeMap<String, Value> {
        self.steps
            .iter()
            .filter(|step| step.state == StepState::Done)
            .filter_map(|step| {
                let outcome = self.task(step.task?)?.outcome.as_ref()?;
                Some((step.planned.key.clone(), outcome.output.clone()))
            })
            .collect()
    }
}

/// Carries a campaign forward: adds to `change` whatever follows from the state of its tasks.
///
/// `view` must already hold what `change` writes. A failed task whose step may still be replanned keeps its step
/// active; the planner's own change moves it on.
pub fn advance(view: &mut CampaignView, change: &mut Change, cx: &Context<'_>) {
    let before = view.clone();
    if view.campaign.state != CampaignState::Running {
        return;
    }
    settle_finished_steps(view);
    start_ready_steps(view, change, cx);
    settle_campaign(view, change, cx);
    write_differences(&before, view, change, cx);
}

fn settle_finished_steps(view: &mut CampaignView) {
    let states: BTreeMap<TaskId, TaskState> = view.tasks.iter().map(|task| (task.id, task.state)).collect();
    for step in view.steps.iter_mut().filter(|step| step.state == StepState::Active) {
        match step.task.and_then(|id| states.get(&id)) {
            Some(TaskState::Approved) => step.state = StepState::Done,
            Some(TaskState::Rejected) => step.state = StepState::Failed,
            Some(TaskState::Cancelled) => step.state = StepState::Cancelled,
            _ => {}
        }
    }
}

fn start_ready_steps(view: &mut CampaignView, change: &mut Change, cx: &Context<'_>) {
    let outputs = view.outputs();
    let CampaignView { campaign, steps, tasks } = view;
    let scope = Scope { inputs: &campaign.inputs, outputs: &outputs, answers: &campaign.answers };
    for step in steps.iter_mut().filter(|step| step.state == StepState::Waiting) {
        let is_answered = step.planned.input.references().iter().all(|reference| match reference {
            crate::template::Reference::Answer(key) => campaign.answers.contains_key(key),
            _ => true,
        });
        if !is_answered || !step.planned.depends_on.iter().all(|key| outputs.contains_key(key)) {
            continue;
        }
        match step.planned.input.resolve(scope) {
            Ok(input) => {
                let task = start_step(campaign, step, input, change, cx);
                tasks.push(task);
            }
            Err(problem) => {
                step.state = StepState::Failed;
                let message = format!("step `{}`: {problem}", step.planned.key);
                campaign.failure = Some(Failure::new(FailureKind::InvalidInput, codes::INPUT_INVALID, message));
            }
        }
    }
}

/// Gives a step a task of its own: writes the spec, the task and the outbox row, and makes the step active.
pub fn start_step(campaign: &Campaign, step: &mut Step, input: Value, change: &mut Change, cx: &Context<'_>) -> Task {
    let spec = TaskSpec {
        id: SpecId::new(cx.ids),
        goal: step.planned.title.clone(),
        skill: step.planned.skill.clone(),
        input,
        limits: step.planned.limits,
        expect: step.planned.expect.clone(),
    };
    let task = Task {
        id: TaskId::new(cx.ids),
        campaign: Some(campaign.id),
        step: Some(step.id),
        lineage: step.lineage,
        planner_id: campaign.planner_id.clone(),
        spec_id: spec.id,
        ..new_task(cx)
    };
    step.task = Some(task.id);
    step.state = StepState::Active;
    change.write(Write::PutSpec(spec));
    change.write(Write::PutTask(task.clone()));
    change.write(Write::PutOutbox(Outbox::for_task(OutboxTopic::Dispatch, &task, cx)));
    let skill = &step.planned.skill;
    let detail = json!({ "step": step.planned.key, "skill": skill.to_string(), "digest": skill.digest });
    change.audit(cx.event("task.created").about(Some(campaign.id), Some(task.id)).detail(detail));
    task
}

/// A pending task with fresh ids and nothing in it yet.
pub fn new_task(cx: &Context<'_>) -> Task {
    Task {
        id: TaskId::new(cx.ids),
        campaign: None,
        step: None,
        lineage: crate::ids::LineageId::new(cx.ids),
        planner_id: DEFAULT_PLANNER.to_owned(),
        spec_id: SpecId::new(cx.ids),
        state: TaskState::Pending,
        priority: 5,
        attempt: 0,
        epoch: 0,
        lease: None,
        worker_id: None,
        retries: 0,
        deaths: 0,
        restarts: 0,
        run_after: None,
        waiting_on: None,
        deadline: None,
        outcome: None,
        failure: None,
        usage: Usage::default(),
        verdict: None,
        rev: 0,
        created_at: cx.now,
        updated_at: cx.now,
    }
}

/// The shard that plans when nothing else is configured.
pub const DEFAULT_PLANNER: &str = "main";

fn settle_campaign(view: &mut CampaignView, change: &mut Change, cx: &Context<'_>) {
    let is_failed = |step: &Step| matches!(step.state, StepState::Failed | StepState::Cancelled);
    let has_failed = view.steps.iter().any(is_failed);
    let is_busy = view.steps.iter().any(|step| step.state == StepState::Active);
    let all_done = view.steps.iter().all(|step| matches!(step.state, StepState::Done | StepState::Superseded));
    let has_questions = view.campaign.questions.iter().any(|q| !view.campaign.answers.contains_key(&q.key));
    if all_done && !has_questions {
        finish(view, CampaignState::Completed, change, cx);
    } else if has_failed && !is_busy {
        let was_rejected = view.tasks.iter().any(|task| task.state == TaskState::Rejected);
        let end = if was_rejected && view.campaign.failure.is_none() {
            CampaignState::Rejected
        } else {
            CampaignState::Failed
        };
        for step in view.steps.iter_mut().filter(|step| step.state == StepState::Waiting) {
            step.state = StepState::Cancelled;
        }
        finish(view, end, change, cx);
    }
}

fn finish(view: &mut CampaignView, state: CampaignState, change: &mut Change, cx: &Context<'_>) {
    view.campaign.state = state;
    view.campaign.finished_at = Some(cx.now);
    let detail = json!({ "failure": view.campaign.failure });
    let action = format!("campaign.{}", state.as_str());
    change.audit(cx.event(action).about(Some(view.campaign.id), None).detail(detail));
}

fn write_differences(before: &CampaignView, view: &mut CampaignView, change: &mut Change, cx: &Context<'_>) {
    for step in &view.steps {
        if before.steps.iter().find(|old| old.id == step.id) != Some(step) {
            change.write(Write::PutStep(step.clone()));
        }
    }
    // Two tasks of one campaign may finish at the same time: each must see the other's step as done, so the
    // campaign's revision is the guard of everything that depends on more than one step.
    change.guard(Guard::CampaignRev(view.campaign.id, before.campaign.rev));
    view.campaign.rev = before.campaign.rev + 1;
    view.campaign.updated_at = cx.now;
    change.write(Write::PutCampaign(view.campaign.clone()));
}
