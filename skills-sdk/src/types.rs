//! The values that pass between a skill and its host, in plain Rust.
//! They hold no connection and no borrowed data, so a skill may keep and compare them.
//! [`Context`](crate::Context) takes and returns them; the recorded answers of tests are read into them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

use crate::failure::Failure;
use crate::outcome::Outcome;

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever debugs the skill.
    Debug,
    /// For whoever watches the task.
    Info,
    /// Something is odd, but the skill goes on.
    Warn,
    /// Something is wrong.
    Error,
}

/// A tool that the skill may call on a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The tool's name, as [`Mcp::call`](crate::Mcp::call) wants it.
    pub name: String,
    /// What the server says that it does; text of a stranger.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the arguments.
    #[serde(default)]
    pub input_schema: Value,
}

/// One call of a tool for [`Mcp::call_all`](crate::Mcp::call_all).
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub(crate) tool: String,
    pub(crate) arguments: Value,
}

impl Call {
    /// A call of `tool` with `arguments`, which must serialise to a JSON object.
    ///
    /// # Errors
    /// `permanent`/`arguments` when the arguments are anything but a JSON object.
    pub fn new(tool: impl Into<String>, arguments: impl Serialize) -> Result<Self, Failure> {
        let tool = tool.into();
        let arguments = serde_json::to_value(arguments)?;
        if !arguments.is_object() {
            return Err(Failure::permanent(
                "arguments",
                format!("The arguments of the tool `{tool}` must be a JSON object."),
            ));
        }
        Ok(Self { tool, arguments })
    }
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The text parts, joined by newlines.
    #[serde(default)]
    pub text: String,
    /// The structured content, when the tool gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// Whether the tool itself reported an error; `text` then says which.
    #[serde(default)]
    pub is_error: bool,
}

impl Answer {
    /// The answer, unless the tool reported an error.
    ///
    /// # Errors
    /// `permanent`/`tool-error` with the tool's text when the tool reported an error.
    pub fn ok(self) -> Result<Self, Failure> {
        if self.is_error {
            return Err(Failure::permanent("tool-error", self.text));
        }
        Ok(self)
    }

    /// Reads the structured content, or the text as JSON when there is none, into a type.
    ///
    /// # Errors
    /// `permanent`/`answer-mismatch` naming the path and what was expected there.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mismatch = |path: String, error: &dyn std::fmt::Display| {
            Failure::permanent(
                "answer-mismatch",
                format!("The tool's answer does not have the expected shape at `{path}`: {error}"),
            )
        };
        match &self.structured {
            Some(value) => serde_path_to_error::deserialize(value)
                .map_err(|error| mismatch(error.path().to_string(), error.inner())),
            None => {
                let mut reader = serde_json::Deserializer::from_str(&self.text);
                serde_path_to_error::deserialize(&mut reader)
                    .map_err(|error| mismatch(error.path().to_string(), error.inner()))
            }
        }
    }
}

/// One thing remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// The id that `remember` returned.
    pub id: String,
    /// The remembered text.
    pub text: String,
    /// The JSON object that was remembered with it.
    #[serde(default)]
    pub metadata: Value,
    /// Similarity to the query, 0 to 1, higher is closer.
    #[serde(default)]
    pub score: f64,
}

/// A topic and how strong it is within the window asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The topic as it was observed.
    pub topic: String,
    /// Sum of the weights seen in the window.
    pub weight: f64,
    /// Number of observations in the window.
    pub count: u64,
}

/// The most that one run may use, in the words of `[limits]` in `skill.toml`. A run may be given less than its manifest
/// asks for: by the task, or by the skill that calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time, waiting included.
    pub time: Duration,
    /// Instructions, roughly; those of skills that it calls count too.
    pub fuel: u64,
    /// Linear memory in MiB.
    pub memory_mb: u32,
    /// Output in KiB.
    pub output_kb: u32,
    /// MCP calls.
    pub mcp_calls: u32,
}

impl Default for Limits {
    /// Those of a manifest that names none.
    fn default() -> Self {
        Self { time: Duration::from_secs(10), fuel: 2_000_000_000, memory_mb: 64, output_kb: 256, mcp_calls: 32 }
    }
}

/// The most that a called skill may use; what is not said is the smaller of its own limit and what the caller has left.
///
/// ```
/// use chimera_skill::Budget;
/// use std::time::Duration;
///
/// let budget = Budget::new().time(Duration::from_secs(2)).fuel(100_000_000);
/// assert_eq!(budget.fuel, Some(100_000_000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Budget {
    /// Wall time, in whole milliseconds.
    pub time: Option<Duration>,
    /// Instructions, roughly.
    pub fuel: Option<u64>,
}

impl Budget {
    /// A budget that says nothing.
    pub const fn new() -> Self {
        Self { time: None, fuel: None }
    }

    /// At most so much wall time.
    pub const fn time(mut self, most: Duration) -> Self {
        self.time = Some(most);
        self
    }

    /// At most so many instructions.
    pub const fn fuel(mut self, most: u64) -> Self {
        self.fuel = Some(most);
        self
    }
}

/// What a called skill returned and what it used.
#[derive(Clone, Debug, PartialEq)]
pub struct Called<T> {
    /// What it returned.
    pub outcome: Outcome<T>,
    /// How long it took.
    pub time: Duration,
    /// What it took of the caller's fuel, its own callees' included.
    pub fuel: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Post {
        id: String,
    }

    #[test]
    fn an_answer_is_parsed_from_either_form() {
        let structured = Answer { structured: Some(json!({"id": "7"})), ..Answer::default() };
        let text = Answer { text: r#"{"id":"7"}"#.into(), ..Answer::default() };
        let post = Post { id: "7".into() };
        assert_eq!(structured.parse::<Post>().unwrap(), post);
        assert_eq!(text.parse::<Post>().unwrap(), post);
        let wrong = Answer { structured: Some(json!({"id": 7})), ..Answer::default() };
        let failure = wrong.parse::<Post>().unwrap_err();
        assert_eq!(failure.code, "answer-mismatch");
        assert!(failure.message.contains("`id`"), "{failure}");
    }

    #[test]
    fn arguments_are_an_object() {
        assert!(Call::new("t", json!({"a": 1})).is_ok());
        assert_eq!(Call::new("t", 3).unwrap_err().code, "arguments");
    }

    #[test]
    fn a_tool_error_is_a_failure() {
        let answer = Answer { text: "no".into(), is_error: true, ..Answer::default() };
        assert_eq!(answer.ok().unwrap_err().message, "no");
    }
}
