//! A plan: a directed acyclic graph of steps, each bound to a skill version, with the reason for each choice.
//!
//! [`Plan::check`] is the gate: nothing is scheduled that has a cycle, an unknown dependency or a reference that no
//! dependency covers. This module does not choose skills. Called by the planner and the scheduler.

use crate::ids::{CampaignId, LineageId, StepId, TaskId};
use crate::manifest::Limits;
use crate::skill::SkillRef;
use crate::template::{Reference, Template};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Most steps in a plan.
pub const MAX_STEPS: usize = 64;

/// What the planner made of a goal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The steps, in an order in which they could be done.
    pub steps: Vec<PlannedStep>,
    /// What could not be bound and a human must answer before the steps that refer to it can run.
    pub questions: Vec<Question>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Unique within the plan, kebab-case.
    pub key: String,
    /// What it is for, in the owner's words where possible.
    pub title: String,
    /// The skill version chosen.
    pub skill: SkillRef,
    /// Its input.
    pub input: Template,
    /// Keys of the steps that must be done before.
    pub depends_on: BTreeSet<String>,
    /// Why this skill and these bindings.
    pub reason: String,
    /// A JSON subset that its output must contain, else a human is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
    /// At most the skill's own limits.
    pub limits: Limits,
}

/// Something that only the human knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique within the plan; templates refer to the answer by it.
    pub key: String,
    /// The step that needs it; none when no skill was found for a part of the goal.
    pub step: Option<String>,
    /// The question, in a sentence.
    pub text: String,
    /// JSON Schema of the answer.
    pub schema: Value,
}

/// A plan that cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to do.
    #[error("the plan has no steps")]
    Empty,
    /// Too much to do.
    #[error("the plan has {0} steps; at most {MAX_STEPS} are allowed: split the campaign")]
    TooManySteps(usize),
    /// Two steps of the same key.
    #[error("two steps are called `{0}`: rename one")]
    DuplicateKey(String),
    /// A dependency that is no step.
    #[error("step `{step}` depends on `{missing}`, which is not a step of this plan")]
    UnknownDependency {
        /// The step that depends.
        step: String,
        /// What it depends on.
        missing: String,
    },
    /// Steps that wait for each other.
    #[error("the steps {} wait for each other in a circle: remove one of the dependencies", .0.join(" → "))]
    Cycle(Vec<String>),
    /// A reference to an answer that no question asks for, or an input that does not exist.
    #[error("step `{step}`: {problem}")]
    BadReference {
        /// The step with the reference.
        step: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Plan {
    /// Adds every step a template refers to as a dependency, then checks the whole.
    ///
    /// # Errors
    /// The first [`PlanError`] found.
    pub fn check(mut self, inputs: &Map<String, Value>) -> Result<Self, PlanError> {
        if self.steps.is_empty() && self.questions.is_empty() {
            return Err(PlanError::Empty);
        }
        if self.steps.len() > MAX_STEPS {
            return Err(PlanError::TooManySteps(self.steps.len()));
        }
        let mut keys = BTreeSet::new();
        for step in &mut self.steps {
            if !keys.insert(step.key.clone()) {
                return Err(PlanError::DuplicateKey(step.key.clone()));
            }
            step.depends_on.extend(step.input.steps());
        }
        let questions: BTreeSet<&str> = self.questions.iter().map(|q| q.key.as_str()).collect();
        for step in &self.steps {
            if let Some(missing) = step.depends_on.iter().find(|key| !keys.contains(*key)) {
                return Err(PlanError::UnknownDependency { step: step.key.clone(), missing: missing.clone() });
            }
            check_references(step, inputs, &questions)?;
        }
        let order = topological_order(&self.steps)?;
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        for (index, key) in order.into_iter().enumerate() {
            place.insert(key, index);
        }
        self.steps.sort_by_key(|step| place.get(&step.key).copied());
        Ok(self)
    }
}

fn check_references(
    step: &PlannedStep,
    inputs: &Map<String, Value>,
    questions: &BTreeSet<&str>,
) -> Result<(), PlanError> {
    let bad = |problem| PlanError::BadReference { step: step.key.clone(), problem };
    for reference in step.input.references() {
        match reference {
            Reference::Input(name, _) if !inputs.contains_key(&name) => {
                return Err(bad(format!("there is no campaign input `{name}`: add it under `inputs`")));
            }
            Reference::Answer(key) if !questions.contains(key.as_str()) => {
                return Err(bad(format!("no question is called `{key}`")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Kahn's algorithm; among steps that are ready at once the plan's own order is kept.
fn topological_order(steps: &[PlannedStep]) -> Result<Vec<String>, PlanError> {
    let mut order: Vec<String> = Vec::with_capacity(steps.len());
    let mut done = BTreeSet::new();
    while order.len() < steps.len() {
        let next =
            steps.iter().find(|step| !done.contains(&step.key) && step.depends_on.iter().all(|key| done.contains(key)));
        match next {
            Some(step) => {
                done.insert(step.key.clone());
                order.push(step.key.clone());
            }
            None => return Err(PlanError::Cycle(find_cycle(steps, &done))),
        }
    }
    Ok(order)
}

fn find_cycle(steps: &[PlannedStep], done: &BTreeSet<String>) -> Vec<String> {
    let by_key: BTreeMap<&str, &PlannedStep> = steps.iter().map(|step| (step.key.as_str(), step)).collect();
    let mut path: Vec<String> = Vec::new();
    let mut current = steps.iter().find(|step| !done.contains(&step.key)).map(|step| step.key.clone());
    while let Some(key) = current {
        if let Some(start) = path.iter().position(|seen| *seen == key) {
            path.drain(..start);
            path.push(key);
            return path;
        }
        current =
            by_key.get(key.as_str()).and_then(|step| step.depends_on.iter().find(|dep| !done.contains(*dep)).cloned());
        path.push(key);
    }
    path
}

/// A step as it is stored (a row of `plan_steps`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// The campaign it belongs to.
    pub campaign: CampaignId,
    /// Survives retry and replan.
    pub lineage: LineageId,
    /// What was planned.
    #[serde(flatten)]
    pub planned: PlannedStep,
    /// Where it is.
    pub state: StepState,
    /// The task that does it, once it was ready.
    pub task: Option<TaskId>,
    /// How often its lineage was replanned before this step.
    pub replans: u32,
    /// Position in the plan, for showing.
    pub position: u32,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Waits for other steps or for an answer.
    Waiting,
    /// Its task exists.
    Active,
    /// Its task was approved.
    Done,
    /// Its task failed or was rejected and nothing replaces it.
    Failed,
    /// Another step of its lineage took its place.
    Superseded,
    /// The campaign was cancelled or cannot reach it any more.
    Cancelled,
}
