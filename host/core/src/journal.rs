//! The journal: every host answer that a guest saw, so that a later run can be told the same.
//!
//! Entries are numbered by host call. A run that asks for something else at a number than the journal says has
//! diverged, and only a human may decide what then. This module holds the values; the sandbox records and replays.

use crate::digest::Digest;
use crate::failure::Failure;
use crate::json::{Extent, MAX_READABLE_DEPTH};
use crate::task::{Outcome, Usage};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Most entries of one task and epoch.
pub const MAX_ENTRIES: u32 = 20_000;
/// How long the journal of a task is kept after the task has ended.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a journal of an epoch that is over is kept: nothing replays it any more.
pub const OLD_EPOCH_KEPT: Duration = Duration::from_secs(3600);

/// Hash of the arguments of what has none.
static NO_ARGUMENTS: LazyLock<Digest> = LazyLock::new(|| Digest::of(b""));

/// One host answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalEntry {
    /// Which host call of the run it is, from 0, assigned before dispatch.
    pub ordinal: u32,
    /// `interface.function`, such as `mcp.call-tool` or `wasi.wall-clock`.
    pub call: Cow<'static, str>,
    /// Hash of the arguments.
    pub request: Digest,
    /// What the guest was told: `{"ok": …}` or `{"err": <failure>}`.
    pub answer: AnswerText,
}

/// JSON as its text, which clones share. A run may be answered 20,000 times, and a value that is taken apart is up to forty
/// times its text: it is taken apart only where one is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerText(Arc<str>);

impl AnswerText {
    /// The text of `{"ok": value}`.
    ///
    /// # Errors
    /// When the value has no JSON.
    pub fn ok(value: &impl Serialize) -> serde_json::Result<Self> {
        #[derive(Serialize)]
        struct Told<'v, V> {
            ok: &'v V,
        }
        serde_json::to_string(&Told { ok: value }).map(|text| Self(text.into()))
    }

    /// A text that was kept somewhere.
    ///
    /// # Errors
    /// Why it is no text of an answer: it is not JSON, or nested deeper than JSON can be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        if Extent::of(text).depth > MAX_READABLE_DEPTH {
            return Err(format!("it is nested deeper than {MAX_READABLE_DEPTH}"));
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value; `null` for what is nested deeper than JSON can be read.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for AnswerText {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

/// As the value that it is.
impl Serialize for AnswerText {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(to)
    }
}

impl fmt::Display for AnswerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JournalEntry {
    /// The name of the entry that says how the run ended. It is no host call; its number is the first that was not given.
    pub const END: &str = "run.end";

    /// The entry that says how a run ended.
    pub fn end(ordinal: u32, end: &RecordedEnd) -> Self {
        let answer = AnswerText(serde_json::to_string(end).unwrap_or_default().into());
        Self { ordinal, call: Self::END.into(), request: *NO_ARGUMENTS, answer }
    }

    /// Is it the run's end, and which?
    pub fn as_end(&self) -> Option<RecordedEnd> {
        (self.call == Self::END).then(|| serde_json::from_str(self.answer.as_str()).ok())?
    }
}

/// How a recorded run ended: what a replay is held against. Written with the run's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedEnd {
    /// Its outcome's digest, or its failure.
    pub result: RecordedResult,
    /// What this run used; the task counts all its attempts together.
    pub usage: Usage,
    /// Digest of what it logged and printed.
    pub logs: Digest,
    /// Calls that it made and got no answer to: the host ended it there.
    #[serde(default)]
    pub unanswered: Vec<Unanswered>,
}

/// A host call that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// Its number.
    pub ordinal: u32,
    /// `interface.function`.
    pub call: Cow<'static, str>,
    /// Hash of the arguments.
    pub request: Digest,
}

/// What a recorded run returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedResult {
    /// An outcome with this digest.
    Outcome(Digest),
    /// A failure: of the skill, of a limit, or of the host.
    Failure(Failure),
}

impl RecordedResult {
    /// Of an outcome: its output's text, the bits of its confidence, its evidence.
    pub fn of(outcome: &Outcome) -> Self {
        let output = outcome.output.to_string();
        let confidence = outcome.confidence.to_bits().to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![output.as_bytes(), &confidence];
        parts.extend(outcome.evidence.iter().map(String::as_bytes));
        Self::Outcome(Digest::of_parts(&parts))
    }
}

impl Divergence {
    /// What was recorded where a replayed run asks for more than its journal has.
    pub const NOTHING: &str = "nothing";
}

/// A run asked for something else than the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("host call {ordinal} was `{recorded}` in the first run and is `{asked}` now")]
pub struct Divergence {
    /// The host call's number.
    pub ordinal: u32,
    /// What the journal has.
    pub recorded: String,
    /// What the run asked for.
    pub asked: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_the_same_as_text_and_as_value() {
        let value = json!({ "ok": { "b": [1, 2.5, null], "a": "ü\n" } });
        let answer = AnswerText::from(&value);
        assert_eq!(AnswerText::ok(&value["ok"]).ok(), Some(answer.clone()));
        assert_eq!(answer.value(), value);
        assert_eq!(serde_json::to_value(&answer).ok(), Some(value));
        assert!(std::ptr::eq(answer.as_str(), answer.clone().as_str()), "a clone takes no room");
        assert_eq!(AnswerText::parse(answer.as_str()), Ok(answer));
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(AnswerText::parse(&nested(MAX_READABLE_DEPTH)).is_ok_and(|answer| !answer.value().is_null()));
        for text in ["", "{", r#"{"ok":1} {}"#, &nested(MAX_READABLE_DEPTH + 1)] {
            assert!(AnswerText::parse(text).is_err(), "{text}");
        }
    }
}
