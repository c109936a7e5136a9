//! Ports that answer from a list written beforehand: a run without any outside.
//!
//! A [`Recorded`] hands out its answers in the order of the calls and remembers every call that was not the next one
//! on the list; it never reaches anything and never invents an answer. Called by the registry's self-tests,
//! `chimera skill test` and tests that need a host without a host.
//!
//! | call | arguments | answer |
//! |---|---|---|
//! | `mcp.list-tools` | `{slot}` | `[{name, description, input_schema}]` |
//! | `mcp.call-tool` | `{slot, tool, arguments}` | `{text, structured, is_error}` |
//! | `mcp.read-resource` | `{slot, uri}` | text |
//! | `memory.remember` | `{text, metadata}` | id |
//! | `memory.recall` | `{query, limit}` | `[{id, text, metadata, score}]` |
//! | `memory.forget` | `{id}` | null |
//! | `scratch.get` / `put` / `delete` | `{key}` / `{key, value}` / `{key}` | value or null / null / null |
//! | `trends.observe` / `top` | `{topic, weight, source}` / `{window_seconds, limit}` | null / `[{topic, weight, count}]` |
//! | `skills.call` | `{name, input}`, and if it has one `budget: {time_ms, fuel}` | `{output, confidence, evidence, time_ms, fuel}`, all but the output optional |
//! | `secrets.exists` | `{name}` | true or false |
//!
//! Several tools called at once (`mcp.call-tools`) are several `mcp.call-tool` answers, in the order of the calls.

use crate::clock::{ManualClock, Timestamp};
use crate::digest::Digest;
use crate::failure::{Failure, FailureKind};
use crate::ids::AgentId;
use crate::journal::JournalEntry;
use crate::json::contains;
use crate::manifest::{RecordedAnswer, SelfTest};
use crate::ports::{
    AskedBudget, Budget, Called, HostError, HostPorts, Journal, LogLevel, McpPort, MemoryHit, MemoryPort, PortError,
    ProgressPort, ScratchPort, SecretsPort, SkillsPort, ToolAnswer, ToolCall, ToolInfo, TrendsPort,
};
use crate::records::{MemoryItem, TrendTop};
use crate::skill::SkillName;
use crate::task::Outcome;
use crate::text::truncated;
use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The code of the failure that an unexpected call is answered with.
pub const MISMATCH: &str = "selftest-mismatch";
/// What the clock shows when a self-test names no time: 2026-01-01T00:00:00Z.
pub const DEFAULT_CLOCK_MILLIS: i64 = 1_767_225_600_000;
/// Most mismatches remembered; one is enough to fail.
const MAX_MISMATCHES: usize = 16;
/// Longest piece of JSON quoted in a mismatch, in bytes.
const MAX_QUOTE: usize = 400;

/// Recorded answers and what became of them.
#[derive(Debug)]
pub struct Recorded {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: VecDeque<RecordedAnswer>,
    given: usize,
    mismatches: Vec<String>,
    journal: Vec<JournalEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedHit {
    id: String,
    text: String,
    #[serde(default)]
    metadata: Value,
    score: f64,
}

impl Recorded {
    /// Ports that give these answers, first to last.
    pub fn new(answers: Vec<RecordedAnswer>) -> Arc<Self> {
        let state = State { left: answers.into(), given: 0, mismatches: Vec::new(), journal: Vec::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Everything a run may reach, answered from this list; clock and seed are the self-test's.
    pub fn host_ports(self: &Arc<Self>, selftest: &SelfTest) -> HostPorts {
        let start = selftest.clock.unwrap_or_else(|| Timestamp::from_millis(DEFAULT_CLOCK_MILLIS));
        HostPorts {
            mcp: self.clone(),
            memory: self.clone(),
            scratch: self.clone(),
            trends: self.clone(),
            skills: self.clone(),
            secrets: self.clone(),
            progress: self.clone(),
            journal: self.clone(),
            clock: Arc::new(ManualClock::new(start)),
            seed: selftest.seed,
        }
    }

    /// Says whether the run asked for exactly what was recorded.
    ///
    /// # Errors
    /// One sentence an unexpected call, and one that lists the answers nobody asked for.
    pub fn finish(&self) -> Result<(), String> {
        let state = self.lock();
        let mut problems = state.mismatches.clone();
        if !state.left.is_empty() {
            let calls: Vec<&str> = state.left.iter().take(8).map(|answer| answer.call.as_str()).collect();
            problems.push(format!(
                "{} recorded answer(s) were never asked for, first: {}",
                state.left.len(),
                calls.join(", ")
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// What was journalled so far.
    pub fn journalled(&self) -> Vec<JournalEntry> {
        self.lock().journal.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next answer, if it is for this call with these arguments.
    fn take(&self, call: &str, args: &Value) -> Result<Value, HostError> {
        let mut state = self.lock();
        let problem = match state.left.front() {
            Some(next) if next.call == call && (next.args.is_null() || contains(args, &next.args)) => None,
            Some(next) if next.call == call => Some(format!(
                "host call {} was `{call}` with {}, but the recorded arguments are {}",
                state.given,
                quoted(args),
                quoted(&next.args)
            )),
            Some(next) => Some(format!(
                "host call {} was `{call}` with {}, but the next recorded answer is for `{}`",
                state.given,
                quoted(args),
                truncated(next.call.clone(), 64)
            )),
            None => Some(format!(
                "host call {} was `{call}` with {}, but no recorded answer is left",
                state.given,
                quoted(args)
            )),
        };
        if let Some(problem) = problem {
            return Err(state.mismatch(problem));
        }
        state.given += 1;
        match state.left.pop_front() {
            Some(RecordedAnswer { failure: Some(failure), .. }) => Err(HostError::Failure(failure)),
            Some(RecordedAnswer { answer, .. }) => Ok(answer),
            None => Err(state.mismatch(format!("no recorded answer for `{call}` is left"))),
        }
    }

    fn take_as<T: DeserializeOwned>(&self, call: &str, args: &Value) -> Result<T, HostError> {
        let answer = self.take(call, args)?;
        serde_json::from_value(answer.clone()).map_err(|error| {
            let problem = format!("the recorded answer of `{call}` is {}: {error}", quoted(&answer));
            self.lock().mismatch(problem)
        })
    }

    /// For calls that answer nothing: whatever was written as the answer is ignored.
    fn take_nothing(&self, call: &str, args: &Value) -> Result<(), HostError> {
        self.take(call, args).map(|_| ())
    }
}

impl State {
    fn mismatch(&mut self, problem: String) -> HostError {
        let failure = Failure::new(FailureKind::Permanent, MISMATCH, problem.clone());
        if self.mismatches.len() < MAX_MISMATCHES {
            self.mismatches.push(problem);
        }
        HostError::Failure(failure)
    }
}

fn quoted(value: &Value) -> String {
    truncated(value.to_string(), MAX_QUOTE)
}

/// An id as it was recorded; one that is no UUID becomes a UUID that depends only on its text.
fn uuid_of(id: &str) -> Uuid {
    Uuid::try_parse(id).unwrap_or_else(|_| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Digest::of(id.as_bytes()).as_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    })
}

#[async_trait]
impl McpPort for Recorded {
    async fn list_tools(&self, slot: &str, _: Instant) -> Result<Vec<ToolInfo>, HostError> {
        self.take_as("mcp.list-tools", &json!({ "slot": slot }))
    }
    async fn call_tool(&self, call: ToolCall, _: Instant) -> Result<ToolAnswer, HostError> {
        let args = json!({ "slot": call.slot, "tool": call.tool, "arguments": call.arguments });
        self.take_as("mcp.call-tool", &args)
    }
    async fn read_resource(&self, slot: &str, uri: &str, _: Instant) -> Result<String, HostError> {
        self.take_as("mcp.read-resource", &json!({ "slot": slot, "uri": uri }))
    }
    async fn replayed(&self, _: &ToolCall) {}
}

#[async_trait]
impl MemoryPort for Recorded {
    async fn remember(&self, _: u32, text: &str, metadata: Value) -> Result<String, HostError> {
        self.take_as("memory.remember", &json!({ "text": text, "metadata": metadata }))
    }
    async fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryHit>, HostError> {
        let hits: Vec<RecordedHit> = self.take_as("memory.recall", &json!({ "query": query, "limit": limit }))?;
        let hit = |hit: RecordedHit| MemoryHit {
            item: MemoryItem {
                id: uuid_of(&hit.id),
                agent: AgentId::from_uuid(Uuid::nil()),
                text: hit.text,
                metadata: hit.metadata,
                created_at: Timestamp::EPOCH,
            },
            score: hit.score,
        };
        Ok(hits.into_iter().map(hit).collect())
    }
    async fn forget(&self, id: &str) -> Result<(), HostError> {
        self.take_nothing("memory.forget", &json!({ "id": id }))
    }
}

#[async_trait]
impl ScratchPort for Recorded {
    async fn get(&self, key: &str) -> Result<Option<Value>, HostError> {
        self.take_as("scratch.get", &json!({ "key": key }))
    }
    async fn put(&self, key: &str, value: Value) -> Result<(), HostError> {
        self.take_nothing("scratch.put", &json!({ "key": key, "value": value }))
    }
    async fn delete(&self, key: &str) -> Result<(), HostError> {
        self.take_nothing("scratch.delete", &json!({ "key": key }))
    }
}

#[async_trait]
impl TrendsPort for Recorded {
    async fn observe(&self, _: u32, topic: &str, weight: f64, source: &str) -> Result<(), HostError> {
        self.take_nothing("trends.observe", &json!({ "topic": topic, "weight": weight, "source": source }))
    }
    async fn top(&self, window: Duration, limit: u32) -> Result<Vec<TrendTop>, HostError> {
        self.take_as("trends.top", &json!({ "window_seconds": window.as_secs(), "limit": limit }))
    }
}

/// The answer of `skills.call`; as the SDK's own test harness reads it.
#[derive(Deserialize)]
struct RecordedCall {
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

#[async_trait]
impl SkillsPort for Recorded {
    async fn call(&self, _: u32, name: &SkillName, input: Value, budget: Budget) -> Called {
        let mut args = json!({ "name": name, "input": input });
        if budget.asked != AskedBudget::default() {
            args["budget"] = json!(budget.asked);
        }
        match self.take_as("skills.call", &args) {
            Ok(RecordedCall { output, confidence, evidence, time_ms, fuel }) => {
                Called { result: Ok(Outcome { output, confidence, evidence }), fuel, wall_ms: time_ms, calls: 0 }
            }
            Err(error) => Called::not_run(error),
        }
    }
}

#[async_trait]
impl SecretsPort for Recorded {
    async fn exists(&self, name: &str) -> bool {
        self.take_as("secrets.exists", &json!({ "name": name })).unwrap_or(false)
    }
}

impl ProgressPort for Recorded {
    fn report(&self, _: f64, _: &str) {}
    fn log(&self, _: LogLevel, _: &str) {}
}

#[async_trait]
impl Journal for Recorded {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        Ok(self.lock().journal.clone())
    }
    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        self.lock().journal.extend(entries);
        Ok(())
    }
}
