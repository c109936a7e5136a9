//! The recorded answers of one run, and what the run did with them.
//! It never panics inside the skill: a wrong call gets a failure, and the test hears of it afterwards.
//! The native host asks it, the harness reads it when the run is over.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::manifest::Capabilities;
use super::recorded::{Recorded, subset};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::types::{Called, Level};

/// Everything that a run asks and says.
#[derive(Debug)]
pub(crate) struct Tape {
    answers: VecDeque<Recorded>,
    asked: usize,
    declared: Option<Capabilities>,
    random: u64,
    pub(crate) clock: SystemTime,
    pub(crate) problems: Vec<String>,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) progress: Vec<(f64, String)>,
}

impl Tape {
    pub(crate) fn new(answers: Vec<Recorded>, declared: Option<Capabilities>, clock: SystemTime, seed: u64) -> Self {
        Self {
            answers: answers.into(),
            asked: 0,
            declared,
            random: seed,
            clock,
            problems: Vec::new(),
            logs: Vec::new(),
            progress: Vec::new(),
        }
    }

    /// The next answer, if the call is the one that was recorded.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self, call: &str, args: &Value) -> Result<T, Failure> {
        self.asked += 1;
        let number = self.asked;
        if let Some(problem) = self.declared.as_ref().and_then(|declared| declared.refuses(call, args)) {
            return Err(self.problem(format!("call {number}, `{call}` with {args}: {problem}")));
        }
        let Some(recorded) = self.answers.pop_front() else {
            return Err(self.problem(format!("call {number}, `{call}` with {args}: no answer is recorded for it")));
        };
        if recorded.call != call {
            return Err(self.problem(format!(
                "call {number}: the skill called `{call}` with {args}, but `{}` is recorded next",
                recorded.call
            )));
        }
        if let Err(difference) = subset(&recorded.args, args) {
            return Err(self.problem(format!(
                "call {number}, `{call}`: the arguments differ from the recorded ones at {difference}"
            )));
        }
        if let Some(failure) = recorded.failure {
            return Err(failure.into());
        }
        serde_json::from_value(recorded.answer).map_err(|error| {
            self.problem(format!(
                "call {number}, `{call}`: the recorded answer does not have the call's shape: {error}"
            ))
        })
    }

    /// Notes the answers that nobody asked for.
    pub(crate) fn finish(&mut self) {
        let left: Vec<String> = self.answers.iter().map(|it| format!("`{}`", it.call)).collect();
        if !left.is_empty() {
            self.problems.push(format!("{} recorded answers were never asked for: {}", left.len(), left.join(", ")));
        }
    }

    fn problem(&mut self, message: String) -> Failure {
        let failure = Failure::permanent("selftest-mismatch", message.clone());
        self.problems.push(message);
        failure
    }

    pub(crate) fn progress(&mut self, fraction: f64, message: &str) {
        self.progress.push((fraction, message.to_owned()));
    }

    pub(crate) fn log(&mut self, level: Level, message: &str) {
        self.logs.push((level, message.to_owned()));
    }

    /// SplitMix64: the same numbers for the same seed, on every machine.
    pub(crate) fn random_u64(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The answer of `skills.call`.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordedCall {
    output: Value,
    #[serde(default = "sure")]
    confidence: f64,
    #[serde(default)]
    evidence: Vec<String>,
    #[serde(default)]
    time_ms: u64,
    #[serde(default)]
    fuel: u64,
}

fn sure() -> f64 {
    1.0
}

impl From<RecordedCall> for Called<Value> {
    fn from(recorded: RecordedCall) -> Self {
        let RecordedCall { output, confidence, evidence, time_ms, fuel } = recorded;
        Self { outcome: Outcome { output, confidence, evidence }, time: Duration::from_millis(time_ms), fuel }
    }
}
