//! Runs a skill's self-tests: in the sandbox, with recorded answers, compared with what the author expects.
//!
//! A self-test reaches nothing outside and leaves nothing behind. Called by [`crate::Registry`] at installation and by
//! `chimera skill test`.

use crate::fitting::{FITTING_TIME, check_value};
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::json::contains;
use chimera_core::manifest::{ExpectedFailure, Manifest, SelfTest, World};
use chimera_core::ports::Budget;
use chimera_core::recorded::Recorded;
use chimera_core::task::{Outcome, Usage};
use chimera_core::text::truncated;
use chimera_sandbox::{JudgedCase, Prepared, RunEnd, RunRequest, Sandbox};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time that all self-tests of a skill may take together.
const BUDGET: Duration = Duration::from_secs(120);
/// Longest piece of JSON quoted in a report, in bytes.
const MAX_QUOTE: usize = 600;

/// What became of one self-test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfTestResult {
    /// Its name.
    pub name: String,
    /// Why it did not pass; none if it did.
    pub problem: Option<SelfTestProblem>,
    /// What it used.
    pub usage: Usage,
}

impl SelfTestResult {
    /// Did it pass?
    pub const fn is_passed(&self) -> bool {
        self.problem.is_none()
    }
}

/// What was expected and what came instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("expected {expected}; got {got}")]
pub struct SelfTestProblem {
    /// In words or JSON.
    pub expected: String,
    /// In words or JSON.
    pub got: String,
}

impl SelfTestProblem {
    fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { expected: expected.into(), got: got.into() }
    }
}

/// Runs every self-test of a prepared skill, in order, on the sandbox's own threads.
pub async fn run_selftests(
    sandbox: &Sandbox,
    prepared: &Arc<Prepared>,
    manifest: &Arc<Manifest>,
) -> Vec<SelfTestResult> {
    let end = Instant::now() + BUDGET;
    let mut results = Vec::with_capacity(manifest.selftests.len());
    for (number, test) in manifest.selftests.iter().enumerate() {
        let run = {
            let (sandbox, prepared, manifest) = (sandbox.clone(), prepared.clone(), manifest.clone());
            async move { run_one(&sandbox, &prepared, &manifest, &manifest.selftests[number], end).await }
        };
        results.push(sandbox.spawn(run).await.unwrap_or_else(|_| {
            let problem = SelfTestProblem::new("a finished run", "the host did not bring it to an end");
            SelfTestResult { name: test.name.clone(), problem: Some(problem), usage: Usage::default() }
        }));
    }
    results
}

async fn run_one(
    sandbox: &Sandbox,
    prepared: &Prepared,
    manifest: &Arc<Manifest>,
    test: &SelfTest,
    end: Instant,
) -> SelfTestResult {
    let deadline = (Instant::now() + manifest.limits.time()).min(end);
    let recorded = Recorded::new(test.answers.clone());
    let (end, usage) = match manifest.skill.world {
        World::Skill => run_skill(sandbox, prepared, manifest, test, &recorded, deadline).await,
        World::Judge => (run_judge(sandbox, prepared, manifest, test, deadline).await, Usage::default()),
    };
    // A call that was not recorded is often why the run ended as it did: told together.
    let problem = match (check_end(test, end), recorded.finish()) {
        (problem, Ok(())) => problem,
        (None, Err(told)) => Some(SelfTestProblem::new("exactly the recorded host calls", told)),
        (Some(problem), Err(told)) => Some(SelfTestProblem { got: format!("{} ({told})", problem.got), ..problem }),
    };
    SelfTestResult { name: test.name.clone(), problem, usage }
}

type End = Result<Outcome, EndProblem>;

enum EndProblem {
    Failure(Failure),
    /// The run stopped in a way that no self-test can expect.
    Stopped(String),
}

async fn run_skill(
    sandbox: &Sandbox,
    prepared: &Prepared,
    manifest: &Arc<Manifest>,
    test: &SelfTest,
    recorded: &Arc<Recorded>,
    deadline: Instant,
) -> (End, Usage) {
    if let Err(problem) = check_value(&manifest.io.input, &test.input, deadline).await {
        let failure = problem.into_failure(FailureKind::InvalidInput, codes::INPUT_INVALID, "its input");
        return (Err(EndProblem::Failure(failure)), Usage::default());
    }
    let request = RunRequest {
        task_id: "selftest".to_owned(),
        campaign: None,
        input: test.input.clone(),
        limits: manifest.limits,
        manifest: manifest.clone(),
        deadline,
        skill_calls: Budget::MAX_CALLS,
    };
    let report = sandbox.run(prepared, request, recorded.host_ports(test)).await;
    // A run that ended in time is checked even if nothing is left of it.
    let after = deadline.max(Instant::now() + FITTING_TIME);
    let end = match report.end {
        RunEnd::Finished(outcome) => match check_value(&manifest.io.output, &outcome.output, after).await {
            Ok(()) => Ok(outcome),
            Err(problem) => {
                let failure = problem.into_failure(FailureKind::Permanent, codes::OUTPUT_INVALID, "its output");
                Err(EndProblem::Failure(failure))
            }
        },
        RunEnd::Failed(failure) => Err(EndProblem::Failure(failure)),
        RunEnd::Suspended(_) => Err(EndProblem::Stopped("the run stopped to wait for a human".to_owned())),
        RunEnd::Diverged(divergence) => Err(EndProblem::Stopped(divergence.to_string())),
    };
    (end, report.usage)
}

/// A finished task as a self-test of a judge writes it; what is absent is empty.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseInput {
    goal: String,
    skill: String,
    input: Value,
    output: Value,
    confidence: f64,
    evidence: Vec<String>,
}

/// A judge's self-test: the input is a case, the output `{decision, confidence, reason}`.
async fn run_judge(
    sandbox: &Sandbox,
    prepared: &Prepared,
    manifest: &Arc<Manifest>,
    test: &SelfTest,
    deadline: Instant,
) -> End {
    let case: CaseInput = serde_json::from_value(test.input.clone()).map_err(|problem| {
        let message =
            format!("the input is not a case {{goal, skill, input, output, confidence, evidence}}: {problem}");
        EndProblem::Failure(Failure::new(FailureKind::InvalidInput, codes::INPUT_INVALID, message))
    })?;
    let CaseInput { goal, skill, input, output, confidence, evidence } = case;
    let case = JudgedCase { goal, skill, input, output, confidence, evidence };
    let opinion = sandbox.evaluate(prepared, case, manifest.limits, deadline).await.map_err(EndProblem::Failure)?;
    let output = json!({ "decision": opinion.decision, "confidence": opinion.confidence, "reason": opinion.reason });
    Ok(Outcome { output, confidence: opinion.confidence, evidence: Vec::new() })
}

fn check_end(test: &SelfTest, end: End) -> Option<SelfTestProblem> {
    match (end, &test.expect_failure) {
        (Err(EndProblem::Stopped(how)), _) => Some(SelfTestProblem::new("a finished run", how)),
        (Err(EndProblem::Failure(failure)), None) => {
            let expected = test.expect.as_ref().map_or_else(|| "an output".to_owned(), quoted);
            Some(SelfTestProblem::new(expected, format!("the failure {failure}")))
        }
        (Err(EndProblem::Failure(failure)), Some(wanted)) => check_failure(wanted, &failure),
        (Ok(outcome), Some(wanted)) => {
            Some(SelfTestProblem::new(in_words(wanted), format!("the output {}", quoted(&outcome.output))))
        }
        (Ok(outcome), None) => check_outcome(test, &outcome),
    }
}

fn check_failure(wanted: &ExpectedFailure, got: &Failure) -> Option<SelfTestProblem> {
    let is_same = wanted.kind == got.kind && wanted.code.as_ref().is_none_or(|code| *code == got.code);
    (!is_same).then(|| SelfTestProblem::new(in_words(wanted), format!("the failure {got}")))
}

fn in_words(wanted: &ExpectedFailure) -> String {
    match &wanted.code {
        Some(code) => format!("a failure of kind {} with code {code}", wanted.kind.as_str()),
        None => format!("a failure of kind {}", wanted.kind.as_str()),
    }
}

fn check_outcome(test: &SelfTest, outcome: &Outcome) -> Option<SelfTestProblem> {
    if let Some(expect) = &test.expect
        && !contains(&outcome.output, expect)
    {
        return Some(SelfTestProblem::new(format!("an output with {}", quoted(expect)), quoted(&outcome.output)));
    }
    let least = test.min_confidence?;
    // Written so that a confidence that is no number does not pass.
    let is_enough = outcome.confidence >= least;
    (!is_enough)
        .then(|| SelfTestProblem::new(format!("a confidence of at least {least}"), format!("{}", outcome.confidence)))
}

fn quoted(value: &Value) -> String {
    truncated(json!(value).to_string(), MAX_QUOTE)
}
