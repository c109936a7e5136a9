//! The decomposer: turns a goal into a plan, a graph of steps each bound to a skill version, with the reason for each
//! choice.
//!
//! Explicit steps are bound as they are written. Free text is split into parts, each part is matched with an installed
//! skill, and the inputs are bound by schema; what fits nothing becomes a question to the human, never a guess. It
//! schedules nothing and writes nothing. Called by the scheduler's planner loop, and once more when a campaign with
//! explicit steps is created, so that its mistakes are told at once.

use super::binder::{Binder, Part};
use super::campaign_file::ExplicitStep;
use super::catalogue::{CHOOSE_AT, CHOOSE_EFFECT_AT, CHOOSE_STATEMENT_AT, Catalogue, Choice, list_names};
use super::clauses::{self, Clause, ClauseKind, MAX_CLAUSES};
use super::explicit;
use chimera_core::campaign::Campaign;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::manifest::Effects;
use chimera_core::plan::{Plan, Question};
use chimera_core::ports::{SkillIndex, Truth};
use chimera_core::text::{printable, truncated};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Planning a goal never takes longer.
pub const PLAN_CAP: Duration = Duration::from_secs(5);
/// Code of a campaign's failure when its goal or its steps make no plan.
pub const UNPLANNABLE: &str = codes::UNPLANNABLE;
/// Code of a campaign's failure when planning took longer than [`PLAN_CAP`].
pub const PLAN_TIMEOUT: &str = codes::PLAN_TIMEOUT;
/// The answer to "which skill?" that leaves a part of the goal out.
pub const SKIP: &str = "skip";

/// Makes plans of goals.
#[derive(Clone)]
pub struct Decomposer {
    truth: Arc<dyn Truth>,
    index: Arc<dyn SkillIndex>,
}

impl std::fmt::Debug for Decomposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decomposer").finish_non_exhaustive()
    }
}

impl Decomposer {
    /// A decomposer over what is installed (`truth`) and the semantic index of it.
    pub fn new(truth: Arc<dyn Truth>, index: Arc<dyn SkillIndex>) -> Self {
        Self { truth, index }
    }

    /// The semantic index of skills.
    pub(crate) fn index(&self) -> &Arc<dyn SkillIndex> {
        &self.index
    }

    /// Plans a campaign, within [`PLAN_CAP`].
    ///
    /// # Errors
    /// `invalid-input` with [`UNPLANNABLE`] when goal or steps make no plan (the message says what to write instead);
    /// `transient` when the truth or the index cannot be read, or with [`PLAN_TIMEOUT`].
    pub async fn plan(&self, campaign: &Campaign) -> Result<Plan, Failure> {
        let (planner, campaign) = (self.clone(), campaign.clone());
        let planned = apart(async move { planner.plan_uncapped(&campaign).await });
        match tokio::time::timeout(PLAN_CAP, planned).await {
            Ok(planned) => planned,
            Err(_) => Err(Failure::new(
                FailureKind::Transient,
                PLAN_TIMEOUT,
                format!("planning took longer than {} s: shorten the goal or write the steps down", PLAN_CAP.as_secs()),
            )),
        }
    }

    async fn plan_uncapped(&self, campaign: &Campaign) -> Result<Plan, Failure> {
        let catalogue = Catalogue::read(self.truth.as_ref(), Some(campaign.id.as_uuid()))
            .await
            .map_err(|error| host_failure(&error.message))?;
        match &campaign.explicit {
            Some(steps) => {
                let steps: Vec<ExplicitStep> = serde_json::from_value(steps.clone())
                    .map_err(|error| unplannable(format!("the stored steps cannot be read: {error}")))?;
                plan_explicit(&steps, &campaign.inputs, &catalogue)
            }
            None => self.plan_goal(campaign, &catalogue).await,
        }
    }

    /// Checks explicit steps against what is installed, without a campaign.
    ///
    /// # Errors
    /// As [`Decomposer::plan`].
    pub async fn check_explicit(&self, steps: &[ExplicitStep], inputs: &Map<String, Value>) -> Result<(), Failure> {
        let catalogue =
            Catalogue::read(self.truth.as_ref(), None).await.map_err(|error| host_failure(&error.message))?;
        let (steps, inputs) = (steps.to_vec(), inputs.clone());
        apart(async move { plan_explicit(&steps, &inputs, &catalogue).map(|_| ()) }).await
    }

    async fn plan_goal(&self, campaign: &Campaign, catalogue: &Catalogue) -> Result<Plan, Failure> {
        let clauses = clauses::split(&campaign.goal, &catalogue.verbs()).map_err(|_| {
            unplannable(format!(
                "the goal has more than {MAX_CLAUSES} parts: split the campaign, or write the steps down"
            ))
        })?;
        let mut selection = Selection::default();
        for clause in &clauses {
            let hits = self.index.search(&clause.text, 8).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the skill index cannot be searched; planning by words alone");
                Vec::new()
            });
            selection.take(clause, &catalogue.rank(&clause.text, &hits), catalogue, &campaign.answers)?;
        }
        selection.ask_if_empty(&clauses, catalogue);
        if !selection.questions.is_empty() {
            // Which skill to take comes before what to give it: the rest is planned once that is answered.
            return Ok(Plan { steps: Vec::new(), questions: selection.questions });
        }
        let plan = Binder::new(campaign, catalogue, selection.background).bind(selection.parts);
        plan.check(&campaign.inputs).map_err(|error| unplannable(error.to_string()))
    }
}

/// Planning holds values against schemas of strangers: not on the runtime's own threads.
async fn apart<T: Send + 'static>(
    planning: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Handle::current();
    let planned = tokio::task::spawn_blocking(move || runtime.block_on(planning)).await;
    planned.unwrap_or_else(|_| Err(host_failure("planning stopped")))
}

fn plan_explicit(steps: &[ExplicitStep], inputs: &Map<String, Value>, catalogue: &Catalogue) -> Result<Plan, Failure> {
    let plan = explicit::bind(steps, inputs, catalogue).map_err(unplannable)?;
    plan.check(inputs).map_err(|error| unplannable(error.to_string()))
}

/// Which skill each part of a goal got.
#[derive(Default)]
struct Selection<'c> {
    parts: Vec<Part<'c>>,
    questions: Vec<Question>,
    background: Vec<String>,
}

impl<'c> Selection<'c> {
    fn take(
        &mut self,
        clause: &Clause,
        ranked: &[Choice<'c>],
        catalogue: &'c Catalogue,
        answers: &Map<String, Value>,
    ) -> Result<(), Failure> {
        let key = question_key(&clause.text);
        if let Some(answer) = answers.get(&key) {
            let named = answer.as_str().unwrap_or_default();
            if named != SKIP {
                let version = catalogue.require(named).map_err(unplannable)?;
                self.add(Part::new(clause, version, format!("Named by a human for “{}”.", short(&clause.text))));
            }
            return Ok(());
        }
        let least = match clause.kind {
            ClauseKind::Instruction => CHOOSE_AT,
            ClauseKind::Statement => CHOOSE_STATEMENT_AT,
        };
        let is_enough = |choice: &&Choice<'_>| {
            let is_effect = choice.version.manifest.skill.effects == Effects::Write;
            choice.score >= if is_effect { CHOOSE_EFFECT_AT } else { least }
        };
        match ranked.first().filter(is_enough) {
            Some(choice) => {
                let reason = format!(
                    "{} fits “{}” best: score {:.2}, matched {}.",
                    choice.version.skill,
                    short(&clause.text),
                    choice.score,
                    if choice.matched.is_empty() { "by meaning".to_owned() } else { choice.matched.join(", ") }
                );
                self.add(Part::new(clause, choice.version, reason));
            }
            None if clause.kind == ClauseKind::Instruction => self.questions.push(which_skill(&key, clause, catalogue)),
            None => self.background.push(clause.full_text()),
        }
        Ok(())
    }

    /// Neighbouring parts that want the same skill are one step.
    fn add(&mut self, part: Part<'c>) {
        match self.parts.last_mut().filter(|last| last.version.skill == part.version.skill) {
            Some(last) => last.merge(part),
            None => self.parts.push(part),
        }
    }

    /// A goal of background alone: the human must say what is to be done with it.
    fn ask_if_empty(&mut self, clauses: &[Clause], catalogue: &Catalogue) {
        if self.parts.is_empty()
            && self.questions.is_empty()
            && let Some(clause) = clauses.first()
        {
            self.questions.push(which_skill(&question_key(&clause.text), clause, catalogue));
        }
    }
}

fn which_skill(key: &str, clause: &Clause, catalogue: &Catalogue) -> Question {
    let names: Vec<String> = catalogue.all().map(|version| version.skill.name.to_string()).collect();
    let hint = if names.is_empty() {
        "none is installed: install one with `chimera skill install FILE` first".to_owned()
    } else {
        format!("installed are {}", list_names(&names[..names.len().min(12)]))
    };
    Question {
        key: key.to_owned(),
        step: None,
        text: format!(
            "No installed skill fits “{}”: name one ({hint}), answer \"{SKIP}\" to leave it out, or reject and rephrase the goal.",
            short(&clause.text)
        ),
        schema: json!({
            "type": "string",
            "description": "a skill's name as namespace/name, or \"skip\"",
            "enum": names.into_iter().chain([SKIP.to_owned()]).collect::<Vec<_>>(),
        }),
    }
}

/// The same part of a goal has the same question, whenever it is planned.
fn question_key(text: &str) -> String {
    format!("skill-{}", &Digest::of(text.as_bytes()).hex()[..12])
}

/// At most 120 bytes of the owner's words, safe to print, for a sentence of ours.
pub(crate) fn short(text: &str) -> String {
    let text = printable(text);
    let cut = truncated(text.clone(), 120);
    if cut.len() < text.len() { format!("{}…", cut.trim_end()) } else { cut }
}

fn unplannable(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::InvalidInput, UNPLANNABLE, message)
}

fn host_failure(message: &str) -> Failure {
    Failure::new(FailureKind::Transient, codes::HOST, message)
}

#[cfg(test)]
#[path = "decomposer_tests.rs"]
mod tests;
