//! One recorded answer, and what "a JSON subset" means.
//! It holds data and compares it; it never calls anything.
//! Tests and `skill.toml` write recorded answers, the tape consumes them.

use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, FailureKind};

/// One answer of the host that a test recorded. In `skill.toml`:
/// `{ call = "mcp.call-tool", args = { slot = "social" }, answer = { text = "ok" } }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub(crate) call: String,
    #[serde(default)]
    pub(crate) args: Value,
    #[serde(default)]
    pub(crate) answer: Value,
    #[serde(default)]
    pub(crate) failure: Option<RecordedFailure>,
}

/// A failure as `skill.toml` writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedFailure {
    pub(crate) kind: FailureKind,
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) retry_after_ms: Option<u64>,
    #[serde(default)]
    pub(crate) details: Option<Box<Value>>,
}

impl Recorded {
    /// Expects `call` with arguments that contain `args`, and answers nothing (null) until told otherwise.
    #[must_use]
    pub fn call(call: impl Into<String>, args: Value) -> Self {
        Self { call: call.into(), args, answer: Value::Null, failure: None }
    }

    /// The host's answer.
    #[must_use]
    pub fn answers(mut self, answer: Value) -> Self {
        self.answer = answer;
        self
    }

    /// The host's failure, instead of an answer.
    #[must_use]
    pub fn fails(mut self, failure: Failure) -> Self {
        self.failure = Some(RecordedFailure {
            kind: failure.kind,
            code: failure.code,
            message: failure.message,
            retry_after_ms: failure.retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            details: failure.details,
        });
        self
    }
}

impl From<RecordedFailure> for Failure {
    fn from(failure: RecordedFailure) -> Self {
        Self {
            kind: failure.kind,
            code: failure.code,
            message: failure.message,
            retry_after: failure.retry_after_ms.map(std::time::Duration::from_millis),
            details: failure.details,
        }
    }
}

/// Is `expected` contained in `actual`? Objects may have more keys, arrays have the same length and are compared
/// element by element, numbers are compared by value, everything else is equal. A null contains nothing to check
/// at the top, and equals null elsewhere.
///
/// # Errors
/// One sentence naming the first path that differs, what was expected there and what was found.
pub fn subset(expected: &Value, actual: &Value) -> Result<(), String> {
    if expected.is_null() {
        return Ok(());
    }
    compare(expected, actual, &mut String::from("$"))
}

fn compare(expected: &Value, actual: &Value, path: &mut String) -> Result<(), String> {
    let depth = path.len();
    match (expected, actual) {
        (Value::Object(want), Value::Object(have)) => {
            for (key, value) in want {
                path.push('.');
                path.push_str(key);
                let found = have.get(key).ok_or_else(|| format!("{path}: expected {value}, found nothing"))?;
                compare(value, found, path)?;
                path.truncate(depth);
            }
            Ok(())
        }
        (Value::Array(want), Value::Array(have)) => {
            if want.len() != have.len() {
                return Err(format!("{path}: expected {} elements, found {}: {actual}", want.len(), have.len()));
            }
            for (index, (value, found)) in want.iter().zip(have).enumerate() {
                path.push_str(&format!("[{index}]"));
                compare(value, found, path)?;
                path.truncate(depth);
            }
            Ok(())
        }
        (Value::Number(want), Value::Number(have)) if want.as_f64() == have.as_f64() => Ok(()),
        _ if expected == actual => Ok(()),
        _ => Err(format!("{path}: expected {expected}, found {actual}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subset_may_leave_out_keys_but_not_elements() {
        let actual = json!({"a": 1.0, "b": [{"c": "x", "d": null}, 2]});
        for good in
            [json!({}), json!({"a": 1}), json!({"b": [{"c": "x"}, 2]}), json!({"b": [{"d": null}, 2.0]}), Value::Null]
        {
            assert_eq!(subset(&good, &actual), Ok(()), "{good}");
        }
        for (bad, path) in [
            (json!({"a": 2}), "$.a"),
            (json!({"z": 1}), "$.z"),
            (json!({"b": [{"c": "x"}]}), "$.b"),
            (json!({"b": [{"c": "y"}, 2]}), "$.b[0].c"),
            (json!([]), "$"),
        ] {
            let message = subset(&bad, &actual).unwrap_err();
            assert!(message.starts_with(&format!("{path}:")), "{bad}: {message}");
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let recorded: Recorded = serde_json::from_value(json!({
            "call": "mcp.call-tool",
            "failure": {"kind": "transient", "code": "c", "message": "m", "retry_after_ms": 5, "details": {"field": "/a"}}
        }))
        .unwrap();
        let failure: Failure = recorded.failure.unwrap().into();
        assert_eq!(failure.retry_after, Some(std::time::Duration::from_millis(5)));
        assert_eq!(failure.details, Some(Box::new(json!({"field": "/a"}))));
        let unknown = json!({"call": "x", "anwser": 1});
        assert!(serde_json::from_value::<Recorded>(unknown).is_err());
    }
}
