//! What a judge is given and what it answers, and what runs around it.
//! It decides nothing and asks the host for nothing: a judge reaches only the log. The host may be stricter than a judge's
//! verdict, never laxer.
//! The expansion of `#[judge]` calls it on `wasm32`, the test harness natively.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, clip};
use crate::host::Host;
#[cfg(not(target_arch = "wasm32"))]
use crate::outcome::Outcome;
use crate::runtime::check_confidence;
use crate::types::Level;

/// Longest reason that leaves a judge, in bytes.
const MAX_REASON: usize = 2 * 1024;

/// A finished task to be judged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Case {
    /// What the task was meant to do, in the campaign owner's words.
    pub goal: String,
    /// `namespace/name` of the skill that ran.
    pub skill: String,
    /// What the skill was given.
    pub input: Value,
    /// What it made of it.
    pub output: Value,
    /// How sure it was of that, 0 to 1.
    pub confidence: f64,
    /// Its reasons.
    pub evidence: Vec<String>,
}

impl Case {
    /// Reads the skill's input into a type.
    ///
    /// # Errors
    /// `invalid-input`/`case-mismatch` naming the path and what was expected there.
    pub fn input_as<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse("input", &self.input)
    }

    /// Reads the skill's output into a type.
    ///
    /// # Errors
    /// `invalid-input`/`case-mismatch` naming the path and what was expected there.
    pub fn output_as<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse("output", &self.output)
    }
}

fn parse<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner());
        let message = format!("The {what} of the judged task is not what this judge judges, at `{path}`: {why}");
        Failure::invalid_input("case-mismatch", message)
    })
}

/// What shall become of a finished task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Good enough.
    Approve,
    /// Run it again.
    Retry,
    /// A different skill or specification is needed.
    Replan,
    /// A human must decide.
    Escalate,
    /// Not acceptable; end it.
    Reject,
}

/// A judge's opinion.
///
/// ```
/// use chimera_skill::{Decision, Verdict};
///
/// let verdict = Verdict::escalate("The text names a person.").confidence(0.7);
/// assert_eq!(verdict.decision, Decision::Escalate);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Verdict {
    /// What shall become of the task.
    pub decision: Decision,
    /// How sure the judge is, 0 to 1; anything else is a failure.
    pub confidence: f64,
    /// One sentence for a human; at most 2 KiB, longer ones are cut.
    pub reason: String,
}

impl Verdict {
    /// A verdict with confidence 1.
    pub fn new(decision: Decision, reason: impl Into<String>) -> Self {
        Self { decision, confidence: 1.0, reason: reason.into() }
    }

    /// Good enough.
    pub fn approve(reason: impl Into<String>) -> Self {
        Self::new(Decision::Approve, reason)
    }

    /// Run it again.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::new(Decision::Retry, reason)
    }

    /// A different skill or specification is needed.
    pub fn replan(reason: impl Into<String>) -> Self {
        Self::new(Decision::Replan, reason)
    }

    /// A human must decide.
    pub fn escalate(reason: impl Into<String>) -> Self {
        Self::new(Decision::Escalate, reason)
    }

    /// Not acceptable.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::new(Decision::Reject, reason)
    }

    /// Says how sure the judge is, 0 to 1.
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence;
        self
    }

    /// The verdict as it may leave the judge.
    fn checked(mut self) -> Result<Self, Failure> {
        check_confidence(self.confidence)?;
        clip(&mut self.reason, MAX_REASON);
        Ok(self)
    }
}

/// What a judge can reach: whoever watches.
#[derive(Debug)]
pub struct JudgeContext {
    host: Host,
}

impl JudgeContext {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Shows how far along the judging is, 0 to 1, with a short message (256 bytes). Never fails.
    pub fn progress(&self, fraction: f64, message: impl AsRef<str>) {
        self.host.progress(fraction, message.as_ref());
    }

    /// Writes one log line (at most 4 KiB). Never fails; what is over the host's limit is dropped and counted.
    /// See also the macros [`debug!`](crate::debug), [`info!`](crate::info), [`warn!`](crate::warn), [`error!`](crate::error).
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.host.log(level, message.as_ref());
    }
}

/// Compiles only for a judge.
pub fn assert_judge(_judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>) {}

fn judge_case(
    host: Host,
    judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
    case: Case,
) -> Result<Verdict, Failure> {
    judge(&mut JudgeContext::new(host), case)?.checked()
}

/// A judge's run on JSON: the case as a self-test writes it, the verdict as an outcome's output.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn judge_json(
    host: Host,
    judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
    case: &Value,
) -> Result<Outcome<Value>, Failure> {
    let case: Case = serde_path_to_error::deserialize(case).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner());
        let message = format!("a case is {{goal, skill, input, output, confidence, evidence}}; at `{path}`: {why}");
        Failure::invalid_input("input-invalid", message)
    })?;
    let verdict = judge_case(host, judge, case)?;
    let confidence = verdict.confidence;
    Ok(Outcome::new(serde_json::to_value(verdict)?).confidence(confidence))
}

#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    pub use crate::__bindings::chimera::skill::types::Failure as WireFailure;
    pub use crate::__bindings::judge::exports::chimera::skill::evaluator::{
        Guest as EvaluatorGuest, JudgedCase as WireCase, Verdict as WireVerdict,
    };

    use super::*;
    use crate::__bindings::judge::exports::chimera::skill::evaluator::Decision as WireDecision;
    use crate::host::from_host;
    use crate::runtime::log_panics;

    /// The `evaluate` export: one case, start to end.
    pub fn evaluate(
        case: WireCase,
        judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
    ) -> Result<WireVerdict, WireFailure> {
        log_panics();
        let WireCase { goal, skill, input, output, confidence, evidence } = case;
        let (input, output) = (from_host(&input)?, from_host(&output)?);
        let verdict = judge_case(Host, judge, Case { goal, skill, input, output, confidence, evidence })?;
        let decision = match verdict.decision {
            Decision::Approve => WireDecision::Approve,
            Decision::Retry => WireDecision::Retry,
            Decision::Replan => WireDecision::Replan,
            Decision::Escalate => WireDecision::Escalate,
            Decision::Reject => WireDecision::Reject,
        };
        Ok(WireVerdict { decision, confidence: verdict.confidence, reason: verdict.reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;
    use crate::testing::Harness;
    use serde_json::json;

    fn strict(ctx: &mut JudgeContext, case: Case) -> Result<Verdict, Failure> {
        let posts: Vec<String> = case.output_as()?;
        crate::info!(ctx, "{} posts", posts.len());
        Ok(Verdict::new(if posts.is_empty() { Decision::Replan } else { Decision::Approve }, "counted").confidence(0.8))
    }

    #[test]
    fn a_judge_reads_the_case_and_says_what_it_thinks() {
        let case = json!({"goal": "Find posts.", "output": ["a"], "confidence": 0.5});
        let run = Harness::new(vec![]).try_judge_json(strict, &case).unwrap();
        assert_eq!(run.outcome().output, json!({"decision": "approve", "confidence": 0.8, "reason": "counted"}));
        assert_eq!(run.outcome().confidence, 0.8);
        assert_eq!(run.logs, [(Level::Info, "1 posts".to_owned())]);
        let run = Harness::new(vec![]).judge(strict, Case { output: json!([]), ..Case::default() });
        assert_eq!(run.outcome().output.decision, Decision::Replan);
    }

    #[test]
    fn what_a_judge_cannot_judge_is_a_failure() {
        let failure = |case: &Value| Harness::new(vec![]).try_judge_json(strict, case).unwrap().failure().clone();
        let other = failure(&json!({"output": [1]}));
        assert_eq!((other.kind, other.code.as_str()), (FailureKind::InvalidInput, "case-mismatch"));
        assert!(other.message.contains("`[0]`"), "{other}");
        let unknown = failure(&json!({"outptu": []}));
        assert_eq!((unknown.kind, unknown.code.as_str()), (FailureKind::InvalidInput, "input-invalid"));
    }

    #[test]
    fn a_verdict_keeps_the_contract_s_limits() {
        let verdict = Verdict::reject("x".repeat(5000)).checked().unwrap();
        assert_eq!(verdict.reason.len(), MAX_REASON);
        for wrong in [f64::NAN, -0.1, 1.1] {
            assert_eq!(Verdict::approve("").confidence(wrong).checked().unwrap_err().code, "confidence-range");
        }
    }
}
