//! What a judge says of a finished task.
//!
//! A verdict is a value; [`crate::machine::transition`] turns it into a state. Called by the judge and the API.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What shall happen with a finished task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Good enough.
    Approve,
    /// Run it again.
    Retry,
    /// Another skill or specification is needed.
    Replan,
    /// A human must decide.
    Escalate,
    /// Not acceptable.
    Reject,
}

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What shall happen.
    pub decision: Decision,
    /// How sure the judge is, 0 to 1.
    pub confidence: f64,
    /// One sentence for a human.
    pub reason: String,
    /// The deterministic checks, in the order they were made.
    pub checks: Vec<Check>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// One deterministic check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: Cow<'static, str>,
    /// Whether it holds.
    pub result: CheckResult,
    /// What was seen.
    pub detail: Cow<'static, str>,
}

/// Whether a check holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It does not apply.
    Skipped,
}
