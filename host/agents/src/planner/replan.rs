//! What happens to a step whose task failed for good: another version, another skill, or a human.
//!
//! The new step keeps the old one's lineage, so that the ledger still knows every effect, and never tries what was tried
//! before in it. It changes nothing but that step. Called by the planner loop for `replan` rows of the outbox.

use super::catalogue::{CHOOSE_AT, Catalogue};
use super::scheduler::{CommitResult, Scheduler, done_with, pause};
use super::schema::{self, Need, Place};
use crate::error::AgentError;
use chimera_core::approval::{Approval, ApprovalKind};
use chimera_core::audit::{Actor, ReviewStatus};
use chimera_core::campaign::{CampaignState, CampaignView};
use chimera_core::change::{Change, Guard, Outbox, Write};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::StepId;
use chimera_core::plan::{Step, StepState};
use chimera_core::skill::{SkillRef, SkillVersion};
use chimera_core::task::{Task, TaskSpec, TaskState};
use chimera_core::template::Reference;
use chimera_registry::check_value_soon;
use serde_json::{Value, json};

impl Scheduler {
    /// Finds another way for the step of a failed task, or asks a human.
    ///
    /// # Errors
    /// `NotFound` when task or campaign are gone; `Conflict` when somebody else handled the row; `Unavailable`.
    pub(crate) async fn replan(&self, row: &Outbox) -> Result<(), AgentError> {
        for attempt in 0..16 {
            let Some(change) = self.replanned(row).await? else { return Ok(()) };
            match self.commit(change).await? {
                CommitResult::Applied | CommitResult::Stale(Guard::OutboxPresent(_)) => return Ok(()),
                CommitResult::Stale(_) => pause(attempt).await,
            }
        }
        Err(AgentError::Unavailable("the campaign changes too often to be replanned".to_owned()))
    }

    async fn replanned(&self, row: &Outbox) -> Result<Option<Change>, AgentError> {
        let Some(task_id) = row.task else { return Ok(Some(done_with(row.id))) };
        let task = self.task(task_id).await?;
        let Some(campaign) = task.campaign else { return Ok(Some(done_with(row.id))) };
        let mut view = self.view(campaign).await?;
        let place = view.steps.iter().position(|step| {
            Some(step.id) == task.step && step.task == Some(task.id) && step.state == StepState::Active
        });
        let (Some(place), TaskState::Failed, CampaignState::Running) = (place, task.state, view.campaign.state) else {
            return Ok(Some(done_with(row.id)));
        };
        let failure =
            task.failure.clone().unwrap_or_else(|| Failure::new(FailureKind::Permanent, "unknown", "it failed"));
        let spec = self.truth().spec(task.spec_id).await?;
        let may_replan =
            failure.kind != FailureKind::Poison && view.steps[place].replans < view.campaign.policy.max_replans;
        let other = match (&spec, may_replan) {
            (Some(spec), true) => self.alternative(&view, &view.steps[place], spec).await?,
            _ => None,
        };
        let mut change = done_with(row.id);
        let cx = self.context(Actor::Planner);
        let event = |action: &'static str, review: ReviewStatus, detail: Value| {
            cx.event(action).about(Some(campaign), Some(task.id)).review(review).detail(detail)
        };
        match other {
            Some(alternative) => {
                let old = &mut view.steps[place];
                old.state = StepState::Superseded;
                let mut new = old.clone();
                new.id = StepId::new(cx.ids);
                new.state = StepState::Waiting;
                new.task = None;
                new.replans += 1;
                new.planned.skill = alternative.skill.skill.clone();
                new.planned.limits = alternative.skill.manifest.limits;
                new.planned.reason = format!(
                    "{} Replanned because {} failed ({}): {}.",
                    old.planned.reason, old.planned.skill, failure.code, alternative.why
                );
                let detail = json!({ "step": old.planned.key, "from": old.planned.skill.to_string(),
                    "to": new.planned.skill.to_string(), "failure": failure, "reason": alternative.why });
                change.write(Write::PutStep(old.clone()));
                change.write(Write::PutStep(new.clone()));
                change.audit(event("step.replanned", ReviewStatus::None, detail));
                view.steps.insert(place + 1, new);
                self.advance(&mut view, &mut change, &cx).await?;
            }
            None => {
                let step = &view.steps[place];
                let tried: Vec<String> = tried(&view, step).iter().map(ToString::to_string).collect();
                let payload = json!({ "step": step.planned.key, "task": task.id, "failure": failure, "tried": tried,
                    "input": spec.as_ref().map(|spec| &spec.input) });
                let title = format!("Try step `{}` once more?", step.planned.key);
                let reason =
                    format!("{} failed: {}; nothing else installed can do it", step.planned.skill, failure.message);
                let approval = Approval::about_task(ApprovalKind::Stuck, &task, title, reason, payload, &cx);
                let detail = json!({ "step": step.planned.key, "approval": approval.id, "failure": failure });
                change.guard(Guard::CampaignRev(campaign, view.campaign.rev));
                change.audit(event("step.stuck", ReviewStatus::Pending, detail));
                change.write(Write::PutApproval(approval));
            }
        }
        Ok(Some(change))
    }

    async fn alternative(
        &self,
        view: &CampaignView,
        step: &Step,
        spec: &TaskSpec,
    ) -> Result<Option<Alternative>, AgentError> {
        let installed = self.truth().skills(None).await?;
        let failed = installed.iter().find(|version| version.skill == step.planned.skill).cloned();
        let lineage = Some(view.campaign.id.as_uuid());
        let catalogue = Catalogue::of(installed, &self.truth().routes(None).await?, lineage);
        let tried = tried(view, step);
        let wanted = Wanted::of(view, step, failed.as_ref(), spec);
        let same_name = catalogue
            .versions(&step.planned.skill.name)
            .iter()
            .filter(|version| !tried.contains(&version.skill))
            .filter(|version| wanted.is_met_by(version));
        for version in same_name {
            if !wanted.gives_what_it_takes(version).await {
                continue;
            }
            let why = format!("{} takes the same input and gives the same output", version.skill);
            return Ok(Some(Alternative { skill: version.clone(), why }));
        }
        let hits = self.decomposer().index().search(&step.planned.title, 8).await.unwrap_or_default();
        let others = catalogue
            .rank(&step.planned.title, &hits)
            .into_iter()
            .filter(|choice| choice.score >= CHOOSE_AT)
            .filter(|choice| {
                choice.version.skill.name != step.planned.skill.name && !tried.contains(&choice.version.skill)
            })
            .filter(|choice| wanted.is_met_by(choice.version));
        for choice in others {
            if wanted.gives_what_it_takes(choice.version).await {
                let why = format!(
                    "{} fits “{}” with score {:.2}, takes its input and gives what later steps need",
                    choice.version.skill, step.planned.title, choice.score
                );
                return Ok(Some(Alternative { skill: choice.version.clone(), why }));
            }
        }
        Ok(None)
    }
}

struct Alternative {
    skill: SkillVersion,
    why: String,
}

/// Every version that was planned in this lineage.
fn tried(view: &CampaignView, step: &Step) -> Vec<SkillRef> {
    view.steps.iter().filter(|other| other.lineage == step.lineage).map(|other| other.planned.skill.clone()).collect()
}

/// What a replacement must take and give.
struct Wanted<'a> {
    input: &'a Value,
    failed: Option<&'a SkillVersion>,
    /// Output fields that later steps refer to, or all that the failed skill always gives when none does.
    fields: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn of(view: &CampaignView, step: &Step, failed: Option<&'a SkillVersion>, spec: &'a TaskSpec) -> Self {
        let mut fields: Vec<String> = view
            .steps
            .iter()
            .filter(|other| other.state == StepState::Waiting)
            .flat_map(|other| other.planned.input.references())
            .filter_map(|reference| match reference {
                Reference::Step(key, at) if key == step.planned.key => at.split('/').nth(1).map(str::to_owned),
                _ => None,
            })
            .collect();
        if let (true, Some(failed)) = (fields.is_empty(), failed) {
            fields = schema::properties(&failed.manifest.io.output)
                .iter()
                .filter(|property| property.need == Need::Required)
                .map(|property| property.name.to_owned())
                .collect();
        }
        Self { input: &spec.input, failed, fields }
    }

    /// Is the step's input one for the candidate?
    async fn gives_what_it_takes(&self, candidate: &SkillVersion) -> bool {
        check_value_soon(&candidate.manifest.io.input, self.input).await.is_ok()
    }

    /// Whether the candidate gives what is wanted, by its schemas alone.
    fn is_met_by(&self, candidate: &SkillVersion) -> bool {
        let manifest = &candidate.manifest;
        let Some(failed) = self.failed else { return true };
        // A replacement never does more to the world than what it replaces, and never checks less.
        let new_gates = schema::gates(&manifest.io.output);
        let keeps_gates = schema::gates(&failed.manifest.io.output).iter().all(|gate| new_gates.contains(gate));
        if manifest.skill.effects > failed.manifest.skill.effects || !keeps_gates {
            return false;
        }
        self.fields.iter().all(|field| {
            let old = schema::property(&failed.manifest.io.output, field);
            match (old, schema::property(&manifest.io.output, field)) {
                (Some(old), Some(new)) => schema::fits(
                    Place { root: &manifest.io.output, schema: new.schema },
                    Place { root: &failed.manifest.io.output, schema: old.schema },
                ),
                (None, new) => new.is_some(),
                (Some(_), None) => false,
            }
        })
    }
}

/// The task that a "stuck" question is about is final; what goes on is its step.
pub(crate) fn stuck_step<'v>(view: &'v mut CampaignView, task: &Task) -> Option<&'v mut Step> {
    view.steps
        .iter_mut()
        .find(|step| Some(step.id) == task.step && step.task == Some(task.id) && step.state == StepState::Active)
}
