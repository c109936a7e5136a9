//! The real host: every method is one import of the contract.
//! It converts values and decides nothing. Only compiled for `wasm32`, only used by `context.rs`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::__bindings::chimera::skill as wit;
use crate::failure::{Failure, FailureKind};
use crate::outcome::Outcome;
use crate::types::{Answer, Budget, Call, Called, Level, Limits, MemoryItem, Tool, Trend};

/// The imports; there is nothing to keep.
#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn list_tools(&self, slot: &str) -> Result<Vec<Tool>, Failure> {
        let tools = wit::mcp::list_tools(slot)?;
        tools
            .into_iter()
            .map(|tool| {
                Ok(Tool {
                    name: tool.name,
                    description: tool.description,
                    input_schema: from_host(&tool.input_schema)?,
                })
            })
            .collect()
    }

    pub(crate) fn call_tool(&self, slot: &str, call: &Call) -> Result<Answer, Failure> {
        answer(wit::mcp::call_tool(&to_wire(slot, call))?)
    }

    pub(crate) fn call_tools(&self, slot: &str, calls: &[Call]) -> Vec<Result<Answer, Failure>> {
        let calls: Vec<wit::mcp::Call> = calls.iter().map(|call| to_wire(slot, call)).collect();
        wit::mcp::call_tools(&calls).into_iter().map(|result| answer(result?)).collect()
    }

    pub(crate) fn read_resource(&self, slot: &str, uri: &str) -> Result<String, Failure> {
        Ok(wit::mcp::read_resource(slot, uri)?)
    }

    pub(crate) fn remember(&self, text: &str, metadata: &Value) -> Result<String, Failure> {
        Ok(wit::memory::remember(text, &metadata.to_string())?)
    }

    pub(crate) fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryItem>, Failure> {
        let items = wit::memory::recall(query, limit)?;
        items
            .into_iter()
            .map(|item| {
                Ok(MemoryItem { id: item.id, text: item.text, metadata: from_host(&item.metadata)?, score: item.score })
            })
            .collect()
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), Failure> {
        Ok(wit::memory::forget(id)?)
    }

    pub(crate) fn scratch_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        wit::scratch::get(key)?.map(|text| from_host(&text)).transpose()
    }

    pub(crate) fn scratch_put(&self, key: &str, value: &Value) -> Result<(), Failure> {
        Ok(wit::scratch::put(key, &value.to_string())?)
    }

    pub(crate) fn scratch_delete(&self, key: &str) -> Result<(), Failure> {
        Ok(wit::scratch::delete(key)?)
    }

    pub(crate) fn observe(&self, topic: &str, weight: f64, source: &str) -> Result<(), Failure> {
        Ok(wit::trends::observe(&wit::trends::Observation {
            topic: topic.to_owned(),
            weight,
            source: source.to_owned(),
        })?)
    }

    pub(crate) fn top_trends(&self, window_seconds: u64, limit: u32) -> Result<Vec<Trend>, Failure> {
        let trends = wit::trends::top(window_seconds, limit)?;
        Ok(trends
            .into_iter()
            .map(|trend| Trend { topic: trend.topic, weight: trend.weight, count: trend.count })
            .collect())
    }

    pub(crate) fn call_skill(&self, name: &str, input: &Value, budget: Budget) -> Result<Called<Value>, Failure> {
        let budget = (budget != Budget::new())
            .then(|| wit::skills::Budget { time_ms: budget.time.map(millis), fuel: budget.fuel });
        let wit::skills::Answer { outcome, time_ms, fuel } = wit::skills::call(name, &input.to_string(), budget)?;
        let wit::types::Outcome { output, confidence, evidence } = outcome;
        let outcome = Outcome { output: from_host(&output)?, confidence, evidence };
        Ok(Called { outcome, time: Duration::from_millis(time_ms), fuel })
    }

    pub(crate) fn secret_exists(&self, name: &str) -> bool {
        wit::secrets::exists(name)
    }

    pub(crate) fn progress(&self, fraction: f64, message: &str) {
        wit::progress::report(fraction, message);
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => wit::progress::Level::Debug,
            Level::Info => wit::progress::Level::Info,
            Level::Warn => wit::progress::Level::Warn,
            Level::Error => wit::progress::Level::Error,
        };
        wit::progress::log(level, message);
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The standard library seeds its hashers from the host's journalled random; that is all that is needed.
    pub(crate) fn random_u64(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

/// Whole milliseconds, as the contract has them.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn to_wire(slot: &str, call: &Call) -> wit::mcp::Call {
    wit::mcp::Call { slot: slot.to_owned(), tool: call.tool.clone(), arguments: call.arguments.to_string() }
}

fn answer(answer: wit::mcp::Answer) -> Result<Answer, Failure> {
    Ok(Answer {
        text: answer.text,
        structured: answer.structured.map(|text| from_host(&text)).transpose()?,
        is_error: answer.is_error,
    })
}

/// The host promises JSON; should it break the promise, the skill fails, it does not trap.
pub(crate) fn from_host(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::permanent("host-json", format!("The host answered no JSON: {error}")))
}

impl From<wit::types::Limits> for Limits {
    fn from(limits: wit::types::Limits) -> Self {
        let wit::types::Limits { time_ms, fuel, memory_mb, output_kb, mcp_calls } = limits;
        Self { time: Duration::from_millis(time_ms), fuel, memory_mb, output_kb, mcp_calls }
    }
}

impl From<wit::types::Failure> for Failure {
    fn from(failure: wit::types::Failure) -> Self {
        use wit::types::FailureKind as Wire;
        Self {
            kind: match failure.kind {
                Wire::InvalidInput => FailureKind::InvalidInput,
                Wire::Transient => FailureKind::Transient,
                Wire::Permanent => FailureKind::Permanent,
                Wire::Denied => FailureKind::Denied,
            },
            code: failure.code,
            message: failure.message,
            retry_after: failure.retry_after_ms.map(Duration::from_millis),
            details: failure.details.and_then(|details| serde_json::from_str(&details).ok()),
        }
    }
}

impl From<Failure> for wit::types::Failure {
    fn from(failure: Failure) -> Self {
        use wit::types::FailureKind as Wire;
        let failure = failure.clipped();
        Self {
            kind: match failure.kind {
                FailureKind::InvalidInput => Wire::InvalidInput,
                FailureKind::Transient => Wire::Transient,
                FailureKind::Permanent => Wire::Permanent,
                FailureKind::Denied => Wire::Denied,
            },
            code: failure.code,
            message: failure.message,
            retry_after_ms: failure.retry_after.map(millis),
            details: failure.details.map(|details| details.to_string()),
        }
    }
}
