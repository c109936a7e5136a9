//! The host of native builds: the recorded answers of a test.
//! It reaches nothing outside the process; a call that was not recorded fails and is noted.
//! Only compiled outside `wasm32`, only used by `context.rs` and the harness.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::testing::tape::{RecordedCall, Tape};
use crate::types::{Answer, Budget, Call, Called, Level, MemoryItem, Tool, Trend};

/// A shared view of a test's tape.
#[derive(Clone, Debug)]
pub(crate) struct Host(pub(crate) Rc<RefCell<Tape>>);

impl Host {
    fn ask<T: serde::de::DeserializeOwned>(&self, call: &str, args: &Value) -> Result<T, Failure> {
        self.0.borrow_mut().answer(call, args)
    }

    /// For calls that answer nothing: whatever was recorded as the answer is ignored.
    fn tell(&self, call: &str, args: &Value) -> Result<(), Failure> {
        self.ask::<serde::de::IgnoredAny>(call, args).map(|_| ())
    }

    pub(crate) fn list_tools(&self, slot: &str) -> Result<Vec<Tool>, Failure> {
        self.ask("mcp.list-tools", &json!({"slot": slot}))
    }

    pub(crate) fn call_tool(&self, slot: &str, call: &Call) -> Result<Answer, Failure> {
        let args = json!({"slot": slot, "tool": call.tool, "arguments": call.arguments});
        self.ask("mcp.call-tool", &args)
    }

    pub(crate) fn call_tools(&self, slot: &str, calls: &[Call]) -> Vec<Result<Answer, Failure>> {
        calls.iter().map(|call| self.call_tool(slot, call)).collect()
    }

    pub(crate) fn read_resource(&self, slot: &str, uri: &str) -> Result<String, Failure> {
        self.ask("mcp.read-resource", &json!({"slot": slot, "uri": uri}))
    }

    pub(crate) fn remember(&self, text: &str, metadata: &Value) -> Result<String, Failure> {
        let args = json!({"text": text, "metadata": metadata});
        self.ask("memory.remember", &args)
    }

    pub(crate) fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryItem>, Failure> {
        self.ask("memory.recall", &json!({"query": query, "limit": limit}))
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), Failure> {
        self.tell("memory.forget", &json!({"id": id}))
    }

    pub(crate) fn scratch_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        self.ask("scratch.get", &json!({"key": key}))
    }

    pub(crate) fn scratch_put(&self, key: &str, value: &Value) -> Result<(), Failure> {
        self.tell("scratch.put", &json!({"key": key, "value": value}))
    }

    pub(crate) fn scratch_delete(&self, key: &str) -> Result<(), Failure> {
        self.tell("scratch.delete", &json!({"key": key}))
    }

    pub(crate) fn observe(&self, topic: &str, weight: f64, source: &str) -> Result<(), Failure> {
        let args = json!({"topic": topic, "weight": weight, "source": source});
        self.tell("trends.observe", &args)
    }

    pub(crate) fn top_trends(&self, window_seconds: u64, limit: u32) -> Result<Vec<Trend>, Failure> {
        let args = json!({"window_seconds": window_seconds, "limit": limit});
        self.ask("trends.top", &args)
    }

    pub(crate) fn call_skill(&self, name: &str, input: &Value, budget: Budget) -> Result<Called<Value>, Failure> {
        let mut args = json!({"name": name, "input": input});
        if budget != Budget::new() {
            let time_ms = budget.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            args["budget"] = json!({"time_ms": time_ms, "fuel": budget.fuel});
        }
        self.ask::<RecordedCall>("skills.call", &args).map(Into::into)
    }

    pub(crate) fn secret_exists(&self, name: &str) -> bool {
        // The contract has no failure here; an unrecorded question still fails the test through the tape.
        self.ask("secrets.exists", &json!({"name": name})).unwrap_or(false)
    }

    pub(crate) fn progress(&self, fraction: f64, message: &str) {
        self.0.borrow_mut().progress(fraction, message);
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        self.0.borrow_mut().log(level, message);
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.0.borrow().clock
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::now()
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.0.borrow_mut().random_u64()
    }
}
