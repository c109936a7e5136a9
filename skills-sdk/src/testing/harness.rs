//! One native run of a skill against recorded answers.
//! It never touches the outside; a run is as deterministic as the skill.
//! Called by unit tests of skills and by the self-test runner.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::manifest::Capabilities;
use super::recorded::Recorded;
use super::tape::Tape;
use crate::context::Context;
use crate::failure::Failure;
use crate::host::Host;
use crate::judge::{Case, JudgeContext, Verdict, judge_json};
use crate::outcome::Outcome;
use crate::runtime::{SkillInput, SkillOutput, decode, encode};
use crate::types::{Level, Limits};

/// Seconds between 1970 and 2026-01-01T00:00:00Z, the clock of a test that sets none.
const DEFAULT_CLOCK: u64 = 1_767_225_600;
const DEFAULT_BUDGET: Duration = Duration::from_secs(10);

/// Stands in for the host during one run.
#[derive(Debug)]
pub struct Harness {
    answers: Vec<Recorded>,
    declared: Option<Capabilities>,
    task_id: String,
    campaign: Option<String>,
    budget: Duration,
    limits: Limits,
    clock: SystemTime,
    seed: u64,
}

/// The recording and the run disagree.
#[derive(Debug, thiserror::Error)]
#[error("the skill and the recorded answers disagree:\n  {}", problems.join("\n  "))]
pub struct HarnessError {
    /// One sentence each, in the order in which they happened.
    pub problems: Vec<String>,
}

/// What a run returned and said.
#[derive(Debug)]
pub struct Run<O> {
    /// What the skill returned.
    pub result: Result<Outcome<O>, Failure>,
    /// The log lines, in order.
    pub logs: Vec<(Level, String)>,
    /// The progress reports, in order.
    pub progress: Vec<(f64, String)>,
}

impl<O> Run<O> {
    /// The outcome.
    ///
    /// # Panics
    /// When the skill failed, with the failure.
    #[track_caller]
    pub fn outcome(&self) -> &Outcome<O> {
        match &self.result {
            Ok(outcome) => outcome,
            Err(failure) => panic!("the skill failed: {failure}"),
        }
    }

    /// The failure.
    ///
    /// # Panics
    /// When the skill did not fail, with its confidence.
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.result {
            Ok(outcome) => panic!("the skill did not fail; it was {} sure of its output", outcome.confidence),
            Err(failure) => failure,
        }
    }
}

impl Harness {
    /// A host that gives these answers, in this order, and no other.
    #[must_use]
    pub fn new(answers: Vec<Recorded>) -> Self {
        Self {
            answers,
            declared: None,
            task_id: "test-task".to_owned(),
            campaign: None,
            budget: DEFAULT_BUDGET,
            limits: Limits::default(),
            clock: SystemTime::UNIX_EPOCH + Duration::from_secs(DEFAULT_CLOCK),
            seed: 0,
        }
    }

    /// Sets the task's id; `test-task` otherwise.
    #[must_use]
    pub fn task_id(mut self, id: impl Into<String>) -> Self {
        self.task_id = id.into();
        self
    }

    /// Puts the task into a campaign; it belongs to none otherwise.
    #[must_use]
    pub fn campaign(mut self, campaign: impl Into<String>) -> Self {
        self.campaign = Some(campaign.into());
        self
    }

    /// Sets what remains of the deadline at the start; 10 seconds otherwise.
    #[must_use]
    pub fn time_left(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets what the run is told that it may use; what a manifest without `[limits]` gives otherwise. Nothing is enforced
    /// here: the sandbox does that.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the wall clock, which then stands still; 2026-01-01T00:00:00Z otherwise.
    #[must_use]
    pub fn clock(mut self, clock: SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the seed of the random numbers; 0 otherwise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Refuses calls that the manifest does not declare, as the host would.
    pub(crate) fn declared(mut self, capabilities: Capabilities) -> Self {
        self.declared = Some(capabilities);
        self
    }

    /// Runs the skill on a typed input.
    ///
    /// # Panics
    /// When the skill makes a call that was not recorded, or leaves a recorded answer unused.
    #[track_caller]
    pub fn run<I, O>(self, skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>, input: I) -> Run<O>
    where
        I: SkillInput,
        O: SkillOutput,
    {
        match self.try_run(skill, input) {
            Ok(run) => run,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs the skill on a typed input.
    ///
    /// # Errors
    /// When the skill makes a call that was not recorded, or leaves a recorded answer unused.
    pub fn try_run<I, O>(
        self,
        skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
        input: I,
    ) -> Result<Run<O>, HarnessError>
    where
        I: SkillInput,
        O: SkillOutput,
    {
        self.play(|context| skill(context, input))
    }

    /// Runs the skill on JSON, as the host does: the input is parsed, the outcome checked and serialised.
    ///
    /// # Errors
    /// When the skill makes a call that was not recorded, or leaves a recorded answer unused.
    pub fn try_run_json<I, O>(
        self,
        skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
        input: &Value,
    ) -> Result<Run<Value>, HarnessError>
    where
        I: SkillInput,
        O: SkillOutput,
    {
        self.play(|context| {
            let outcome = decode(&input.to_string())
                .and_then(|input| skill(context, input))
                .and_then(encode)
                .map_err(Failure::clipped)?;
            Ok(Outcome {
                output: serde_json::from_str(&outcome.output)?,
                confidence: outcome.confidence,
                evidence: outcome.evidence,
            })
        })
    }

    /// Runs a judge on a finished task; its verdict is the output.
    ///
    /// # Panics
    /// When answers are recorded: a judge asks the host for nothing.
    #[track_caller]
    pub fn judge(
        self,
        judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
        case: Case,
    ) -> Run<Verdict> {
        let run = self.play_with(|host| {
            let verdict = judge(&mut JudgeContext::new(host), case)?;
            let confidence = verdict.confidence;
            Ok(Outcome::new(verdict).confidence(confidence))
        });
        match run {
            Ok(run) => run,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a judge on JSON, as the host does: the case is read, the verdict checked and written as
    /// `{decision, confidence, reason}`.
    ///
    /// # Errors
    /// When answers are recorded: nobody asks for them.
    pub fn try_judge_json(
        self,
        judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
        case: &Value,
    ) -> Result<Run<Value>, HarnessError> {
        self.play_with(|host| judge_json(host, judge, case).map_err(Failure::clipped))
    }

    fn play<T>(self, act: impl FnOnce(&mut Context) -> Result<Outcome<T>, Failure>) -> Result<Run<T>, HarnessError> {
        let (id, campaign, budget, limits) = (self.task_id.clone(), self.campaign.clone(), self.budget, self.limits);
        self.play_with(|host| act(&mut Context::new(id, campaign, budget, limits, host)))
    }

    fn play_with<T>(self, act: impl FnOnce(Host) -> Result<Outcome<T>, Failure>) -> Result<Run<T>, HarnessError> {
        let tape = Rc::new(RefCell::new(Tape::new(self.answers, self.declared, self.clock, self.seed)));
        let result = act(Host(Rc::clone(&tape)));
        let mut tape = tape.borrow_mut();
        tape.finish();
        if !tape.problems.is_empty() {
            return Err(HarnessError { problems: std::mem::take(&mut tape.problems) });
        }
        Ok(Run { result, logs: std::mem::take(&mut tape.logs), progress: std::mem::take(&mut tape.progress) })
    }
}

#[cfg(test)]
mod tests;
