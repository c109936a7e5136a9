//! The validator: deterministic checks first, then the skill's confidence against the campaign's policy.
//!
//! A failed check never approves, however confident the skill is. It is pure once a case is read, knows nothing of who
//! waits for the verdict, and changes nothing. Called by the judge's loop, by `evaluate`, and by the reporter to say
//! whether a human will be needed.

use crate::error::AgentError;
use crate::planner::scheduler::Scheduler;
use crate::planner::{Need, gates, properties};
use chimera_core::campaign::CampaignPolicy;
use chimera_core::json::contains;
use chimera_core::manifest::Manifest;
use chimera_core::schema;
use chimera_core::task::{Outcome, Task, TaskSpec};
use chimera_core::text::truncated;
use chimera_core::verdict::{Check, CheckResult, Decision, Verdict};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Most evidence entries that a verdict looks at.
const MAX_EVIDENCE: usize = 32;

/// A reported task with everything a verdict depends on.
#[derive(Debug, Clone)]
pub struct Case {
    /// The task.
    pub task: Task,
    /// What it had to do.
    pub spec: TaskSpec,
    /// What its skill says of itself; none when the version is gone.
    pub manifest: Option<Arc<Manifest>>,
    /// How strict to be.
    pub policy: CampaignPolicy,
}

impl Case {
    /// Reads what a verdict on the task depends on.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read(scheduler: &Scheduler, task: Task, spec: TaskSpec) -> Result<Self, AgentError> {
        let versions = scheduler.truth().skills(Some(&spec.skill.name)).await?;
        let manifest = versions.into_iter().find(|version| version.skill == spec.skill).map(|version| version.manifest);
        let policy = Self::policy_of(scheduler, &task).await?;
        Ok(Self { task, spec, manifest, policy })
    }

    /// How strict the task's campaign is.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn policy_of(scheduler: &Scheduler, task: &Task) -> Result<CampaignPolicy, AgentError> {
        let campaign = match task.campaign {
            Some(id) => scheduler.truth().campaign(id).await?,
            None => None,
        };
        Ok(campaign.map(|campaign| campaign.policy).unwrap_or_default())
    }
}

/// What a failed check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Another run or another skill may do better.
    Redo,
    /// Only a human can say.
    Human,
}

#[derive(Default)]
struct Checks {
    made: Vec<Check>,
    worst: Option<(Severity, String)>,
}

impl Checks {
    fn passed(&mut self, name: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.put(name, CheckResult::Passed, detail.into());
    }

    fn skipped(&mut self, name: &'static str, detail: &'static str) {
        self.put(name, CheckResult::Skipped, detail.into());
    }

    fn failed(&mut self, name: &'static str, severity: Severity, detail: impl Into<Cow<'static, str>>) {
        let detail = detail.into();
        if self.worst.as_ref().is_none_or(|(worst, _)| *worst < severity) {
            self.worst = Some((severity, detail.clone().into_owned()));
        }
        self.put(name, CheckResult::Failed, detail);
    }

    fn put(&mut self, name: &'static str, result: CheckResult, detail: Cow<'static, str>) {
        let detail = match detail {
            Cow::Owned(detail) => Cow::Owned(truncated(detail, 500)),
            own => own,
        };
        self.made.push(Check { name: name.into(), result, detail });
    }
}

/// The verdict on a case. `took_ms` is the caller's to fill in.
pub fn decide(case: &Case) -> Verdict {
    let mut checks = Checks::default();
    let Some(outcome) = &case.task.outcome else {
        checks.failed("outcome", Severity::Redo, "nothing was reported");
        return verdict(case, 0.0, checks);
    };
    checks.passed("outcome", "reported");
    check_confidence(outcome, &mut checks);
    check_size(case, outcome, &mut checks);
    match &case.manifest {
        Some(manifest) => {
            check_output_schema(manifest, outcome, &mut checks);
            check_gates(manifest, outcome, &mut checks);
            check_texts(manifest, outcome, &mut checks);
        }
        None => checks.skipped("schema", "the skill version is no longer installed"),
    }
    check_expectation(case, outcome, &mut checks);
    check_evidence(outcome, &mut checks);
    verdict(case, outcome.confidence, checks)
}

/// The verdict on a case, made within this time, and off the runtime's threads if it may take longer than a moment; else it
/// is a human's.
pub(crate) async fn decide_soon(case: Case, within: Duration) -> Verdict {
    if is_light(&case) { decide(&case) } else { decide_apart(case, within).await }
}

/// The verdict on a case, if it is a moment's work.
pub(crate) fn decide_in_passing(case: &Case) -> Option<Verdict> {
    is_light(case).then(|| decide(case))
}

/// Every part of a verdict but the schema costs about as much as its values are large.
fn is_light(case: &Case) -> bool {
    let (Some(outcome), Some(manifest)) = (&case.task.outcome, &case.manifest) else { return false };
    let expected = case.spec.expect.as_ref().unwrap_or(&Value::Null);
    manifest.io.output.is_light(&outcome.output) && schema::is_light(&Value::Bool(true), expected)
}

async fn decide_apart(case: Case, within: Duration) -> Verdict {
    // A schema of a stranger is part of the case: how many are at work at once is bounded.
    static PLACES: Semaphore = Semaphore::const_new(4);
    let decided = async move {
        let place = PLACES.acquire().await.ok()?;
        let decided = tokio::task::spawn_blocking(move || {
            let _place = place;
            decide(&case)
        });
        decided.await.ok()
    };
    match tokio::time::timeout(within, decided).await {
        Ok(Some(verdict)) => verdict,
        Ok(None) => escalated("the checks themselves failed"),
        Err(_) => escalated("the checks took longer than a verdict may"),
    }
}

fn escalated(reason: &str) -> Verdict {
    Verdict { decision: Decision::Escalate, confidence: 0.0, reason: reason.to_owned(), checks: Vec::new(), took_ms: 0 }
}

fn verdict(case: &Case, confidence: f64, checks: Checks) -> Verdict {
    let policy = &case.policy;
    let again = if case.task.retries == 0 { Decision::Retry } else { Decision::Replan };
    let (decision, reason) = match checks.worst {
        Some((Severity::Human, problem)) => (Decision::Escalate, problem),
        Some((Severity::Redo, problem)) => (again, problem),
        None if confidence >= policy.approve_at => (
            Decision::Approve,
            format!("every check holds and confidence {confidence:.2} reaches {:.2}", policy.approve_at),
        ),
        None if confidence < policy.retry_below => {
            (again, format!("confidence {confidence:.2} is below {:.2}", policy.retry_below))
        }
        None => (
            Decision::Escalate,
            format!("confidence {confidence:.2} is below {:.2}: a human decides", policy.approve_at),
        ),
    };
    let confidence = if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 };
    Verdict { decision, confidence, reason: truncated(reason, 1000), checks: checks.made, took_ms: 0 }
}

fn check_confidence(outcome: &Outcome, checks: &mut Checks) {
    if (0.0..=1.0).contains(&outcome.confidence) {
        checks.passed("confidence", format!("{:.2}", outcome.confidence));
    } else {
        checks.failed("confidence", Severity::Redo, format!("{} is outside 0 to 1", outcome.confidence));
    }
}

fn check_size(case: &Case, outcome: &Outcome, checks: &mut Checks) {
    let size = outcome.output.to_string().len();
    let most = case.spec.limits.output_bytes();
    if size <= most {
        checks.passed("size", format!("{size} of {most} bytes"));
    } else {
        checks.failed("size", Severity::Redo, format!("the output is {size} bytes; at most {most} are allowed"));
    }
}

fn check_output_schema(manifest: &Manifest, outcome: &Outcome, checks: &mut Checks) {
    match manifest.io.output.check(&outcome.output) {
        Ok(()) => checks.passed("schema", "the output fits the skill's schema"),
        Err(problem) => {
            checks.failed("schema", Severity::Redo, format!("the output does not fit its schema: {problem}"))
        }
    }
}

/// What a skill marks as a gate must be true: "compliant" is not a matter of confidence.
fn check_gates(manifest: &Manifest, outcome: &Outcome, checks: &mut Checks) {
    for gate in gates(&manifest.io.output) {
        match outcome.output.pointer(&gate) {
            Some(Value::Bool(true)) => checks.passed("gate", format!("`{gate}` is true")),
            found => {
                let seen = found.map_or_else(|| "missing".to_owned(), ToString::to_string);
                checks.failed("gate", Severity::Human, format!("`{gate}` is {} and must be true", truncated(seen, 80)));
            }
        }
    }
}

fn check_texts(manifest: &Manifest, outcome: &Outcome, checks: &mut Checks) {
    let empty: Vec<&str> = properties(&manifest.io.output)
        .iter()
        .filter(|property| property.need == Need::Required)
        .filter(|property| {
            outcome.output.get(property.name).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty())
        })
        .map(|property| property.name)
        .collect();
    if empty.is_empty() {
        checks.passed("texts", "no required text is empty");
    } else {
        checks.failed("texts", Severity::Redo, format!("empty: {}", empty.join(", ")));
    }
}

fn check_expectation(case: &Case, outcome: &Outcome, checks: &mut Checks) {
    match &case.spec.expect {
        None => checks.skipped("expect", "the plan expects nothing in particular"),
        Some(expected) if contains(&outcome.output, expected) => checks.passed("expect", "the output is as expected"),
        Some(expected) => {
            let wanted = truncated(expected.to_string(), 300);
            checks.failed(
                "expect",
                Severity::Human,
                format!("the output does not contain what the plan expects: {wanted}"),
            );
        }
    }
}

fn check_evidence(outcome: &Outcome, checks: &mut Checks) {
    let given = outcome.evidence.iter().take(MAX_EVIDENCE).filter(|entry| !entry.trim().is_empty()).count();
    if given == 0 {
        checks.skipped("evidence", "the skill gave no reasons");
    } else {
        checks.passed("evidence", format!("{given} reasons given"));
    }
}

#[cfg(test)]
#[path = "validator_tests.rs"]
mod tests;
