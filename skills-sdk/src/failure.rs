//! How a skill says that it could not do its job, and how the host says so to a skill.
//! It decides nothing: the kind tells the host what to do next, the rest is for people.
//! Skills build failures here; every call of [`Context`](crate::Context) may return one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest code that leaves a skill, in bytes.
const MAX_CODE: usize = 64;
/// Longest message that leaves a skill, in bytes.
const MAX_MESSAGE: usize = 2 * 1024;
/// Longest details that leave a skill, in bytes of JSON.
const MAX_DETAILS: usize = 4 * 1024;

/// What kind of failure it is; this, never the text, decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The input cannot be worked on as it is: the planner changes the task's specification.
    InvalidInput,
    /// It may work later: the host retries with growing pauses.
    Transient,
    /// It will never work with this skill: the planner picks another one or replans.
    Permanent,
    /// Something needed was not granted, or a human refused it: the operator is asked.
    Denied,
}

impl FailureKind {
    /// The kind's name as the contract spells it, for example `invalid-input`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid-input",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failure: what kind, a stable code for machines, one sentence for people, and details for whoever reads them.
///
/// ```
/// use chimera_skill::Failure;
/// use chimera_skill::serde_json::json;
/// use std::time::Duration;
///
/// let failure = Failure::transient("rate-limited", "The server asks to slow down.")
///     .retry_after(Duration::from_secs(30));
/// assert_eq!(failure.to_string(), "transient (rate-limited): The server asks to slow down.");
///
/// let failure = Failure::invalid_input("no-such-place", "There is no place of that name.")
///     .details(json!({ "field": "/place" }));
/// assert_eq!(failure.details.unwrap()["field"], "/place");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides what happens next.
    pub kind: FailureKind,
    /// Stable and machine-readable, in kebab-case (else the host makes it so); at most 64 bytes, longer ones are cut when
    /// they leave the skill. A code of the host's, such as `not-granted`, is kept only if the host gave it in this run and
    /// its message still stands at the end ([`Failure::context`] keeps it there); else it becomes `skill-not-granted`.
    pub code: String,
    /// One sentence: what went wrong and what to do about it; at most 2 KiB, longer ones are cut.
    pub message: String,
    /// For [`FailureKind::Transient`]: do not retry earlier than this.
    pub retry_after: Option<Duration>,
    /// What a program may read of it, for example which field of the input it was; at most 4 KiB of JSON, longer ones are
    /// left out when they leave the skill.
    pub details: Option<Box<Value>>,
}

impl Failure {
    /// A failure of the given kind.
    #[must_use]
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), retry_after: None, details: None }
    }

    /// The input cannot be worked on as it is.
    #[must_use]
    pub fn invalid_input(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidInput, code, message)
    }

    /// It may work later.
    #[must_use]
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient, code, message)
    }

    /// It will never work with this skill.
    #[must_use]
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, code, message)
    }

    /// Something needed was not granted.
    #[must_use]
    pub fn denied(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Denied, code, message)
    }

    /// Asks the host not to retry earlier than this; only [`FailureKind::Transient`] failures are retried at all.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Adds what a program may read of the failure; what is no JSON is left out.
    #[must_use]
    pub fn details(mut self, details: impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok().map(Box::new);
        self
    }

    /// Puts what the skill was doing before the message: `publishing the post: <message>`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The failure as it may leave the skill: the lengths of the contract hold.
    #[must_use]
    pub(crate) fn clipped(mut self) -> Self {
        clip(&mut self.code, MAX_CODE);
        clip(&mut self.message, MAX_MESSAGE);
        self.details = self.details.filter(|details| details.to_string().len() <= MAX_DETAILS);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.kind, self.code, self.message)
    }
}

impl std::error::Error for Failure {}

/// JSON that a skill cannot read or write is a defect of the skill or of whom it talks to, and stays one.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::permanent("json", error.to_string())
    }
}

/// A number that is none, found by the skill while it worked on its input.
impl From<std::num::ParseIntError> for Failure {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::invalid_input("not-a-number", error.to_string())
    }
}

/// A number that is none, found by the skill while it worked on its input.
impl From<std::num::ParseFloatError> for Failure {
    fn from(error: std::num::ParseFloatError) -> Self {
        Self::invalid_input("not-a-number", error.to_string())
    }
}

/// Bytes that are not text, found by the skill while it worked on its input.
impl From<std::string::FromUtf8Error> for Failure {
    fn from(error: std::string::FromUtf8Error) -> Self {
        Self::invalid_input("not-utf8", error.to_string())
    }
}

/// Cuts a text to at most `max` bytes, at a character's border.
pub(crate) fn clip(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_hold_at_character_borders() {
        let failure = Failure::permanent("é".repeat(40), "ß".repeat(2000)).clipped();
        assert_eq!(failure.code, "é".repeat(32));
        assert_eq!(failure.message.len(), MAX_MESSAGE);
        let odd = Failure::permanent("x".to_owned() + &"é".repeat(40), "short").clipped();
        assert_eq!(odd.code.len(), 63);
        assert_eq!(odd.message, "short");
    }

    #[test]
    fn details_leave_whole_or_not_at_all() {
        let failure = |size: usize| Failure::permanent("c", "m").details("x".repeat(size)).clipped().details;
        assert_eq!(failure(MAX_DETAILS - 2).map(|details| details.to_string().len()), Some(MAX_DETAILS));
        assert_eq!(failure(MAX_DETAILS - 1), None);
    }

    #[test]
    fn question_mark_works_for_common_errors() {
        fn number(text: &str) -> Result<i64, Failure> {
            Ok(text.parse::<i64>()?)
        }
        fn json(text: &str) -> Result<bool, Failure> {
            Ok(serde_json::from_str(text)?)
        }
        assert_eq!(number("7"), Ok(7));
        assert_eq!(number("x").unwrap_err().kind, FailureKind::InvalidInput);
        assert_eq!(json("nope").unwrap_err().kind, FailureKind::Permanent);
    }

    #[test]
    fn context_comes_first() {
        let failure = Failure::denied("no-grant", "slot social").context("publishing");
        assert_eq!(failure.message, "publishing: slot social");
    }
}
