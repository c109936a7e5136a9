//! What a skill can reach: one handle for each interface of the contract.
//! It holds no authority of its own; the host links, grants, counts and journals every call.
//! The runtime makes one for each task, the test harness makes one for each run.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::host::Host;
use crate::outcome::Outcome;
use crate::types::{Answer, Budget, Call, Called, Level, Limits, MemoryItem, Tool, Trend};

/// The task at hand and everything that the skill's manifest declares.
///
/// Calls wait for their answer; time spent waiting counts against the deadline. A call of something that the
/// manifest does not declare makes the component import more than it may, and `chimera skill build` refuses it.
#[derive(Debug)]
pub struct Context {
    task_id: String,
    campaign: Option<String>,
    budget: Duration,
    limits: Limits,
    first_look: Cell<Option<Instant>>,
    host: Host,
}

impl Context {
    pub(crate) fn new(task_id: String, campaign: Option<String>, budget: Duration, limits: Limits, host: Host) -> Self {
        Self { task_id, campaign, budget, limits, first_look: Cell::new(None), host }
    }

    /// The task's id, the same on every attempt.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.task_id
    }

    /// The campaign that the task belongs to; none when the skill is run by itself.
    #[must_use]
    pub fn campaign(&self) -> Option<&str> {
        self.campaign.as_deref()
    }

    /// The most that this run may use; less than what `skill.toml` says where the task or a calling skill gave less.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What remains of the deadline; zero when it has passed.
    ///
    /// Counting starts with the first call: ask once at the start if you mean to ask at all. A skill that never
    /// asks never reads the clock.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let now = self.host.instant();
        match self.first_look.get() {
            Some(start) => self.budget.saturating_sub(now.saturating_duration_since(start)),
            None => {
                self.first_look.set(Some(now));
                self.budget
            }
        }
    }

    /// The host's wall clock; in tests, the clock of the self-test.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.host.now()
    }

    /// A random number from the host; in tests, from the seed of the self-test. Not for keys or tokens.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        self.host.random_u64()
    }

    /// The tools of a slot, a name from the manifest's `capabilities.mcp`.
    #[must_use]
    pub fn mcp<'a>(&'a self, slot: &'a str) -> Mcp<'a> {
        Mcp { host: &self.host, slot }
    }

    /// Long-term memory of the agent that runs the skill.
    #[must_use]
    pub fn memory(&self) -> Memory<'_> {
        Memory { host: &self.host }
    }

    /// Ephemeral memory: small values that are forgotten after an hour.
    #[must_use]
    pub fn scratch(&self) -> Scratch<'_> {
        Scratch { host: &self.host }
    }

    /// What content is rising.
    #[must_use]
    pub fn trends(&self) -> Trends<'_> {
        Trends { host: &self.host }
    }

    /// Other skills that this one was granted.
    #[must_use]
    pub fn skills(&self) -> Skills<'_> {
        Skills { host: &self.host }
    }

    /// Is a secret of this declared name configured? Its value never enters a skill: tools use it on the host's side.
    #[must_use]
    pub fn secret_exists(&self, name: &str) -> bool {
        self.host.secret_exists(name)
    }

    /// Shows how far along the task is, 0 to 1, with a short message (256 bytes). Never fails.
    pub fn progress(&self, fraction: f64, message: impl AsRef<str>) {
        self.host.progress(fraction, message.as_ref());
    }

    /// Writes one log line (at most 4 KiB). Never fails; what is over the host's limit is dropped and counted.
    /// See also the macros [`debug!`](crate::debug), [`info!`](crate::info), [`warn!`](crate::warn), [`error!`](crate::error).
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.host.log(level, message.as_ref());
    }
}

/// The MCP tools of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Mcp<'a> {
    host: &'a Host,
    slot: &'a str,
}

impl Mcp<'_> {
    /// The tools of this slot that the manifest declares and the grant allows.
    ///
    /// # Errors
    /// What the host or the server says, for example `denied`/`no-grant`.
    pub fn list_tools(&self) -> Result<Vec<Tool>, Failure> {
        self.host.list_tools(self.slot)
    }

    /// Calls one tool; the arguments must serialise to a JSON object.
    ///
    /// An error that the tool itself reports is an [`Answer`] with `is_error`; [`Answer::ok`] makes it a failure.
    /// A call that changes the outside world may wait for a human: the skill is then run again from its start,
    /// with the same answers, once the human decided.
    ///
    /// # Errors
    /// What the host or the server says; `permanent`/`arguments` when the arguments are no object.
    pub fn call(&self, tool: &str, arguments: impl Serialize) -> Result<Answer, Failure> {
        self.host.call_tool(self.slot, &Call::new(tool, arguments)?)
    }

    /// Calls one tool and reads its answer into a type; a tool's own error is a failure here.
    ///
    /// # Errors
    /// As [`Mcp::call`], [`Answer::ok`] and [`Answer::parse`].
    pub fn call_as<T: DeserializeOwned>(&self, tool: &str, arguments: impl Serialize) -> Result<T, Failure> {
        self.call(tool, arguments)?.ok()?.parse()
    }

    /// Calls several tools of this slot at once (at most 16); the answers come in the order of the calls.
    #[must_use]
    pub fn call_all(&self, calls: &[Call]) -> Vec<Result<Answer, Failure>> {
        self.host.call_tools(self.slot, calls)
    }

    /// Reads a resource of the slot's server; its URI must be declared and granted like a tool.
    ///
    /// # Errors
    /// What the host or the server says.
    pub fn read_resource(&self, uri: &str) -> Result<String, Failure> {
        self.host.read_resource(self.slot, uri)
    }
}

/// Long-term memory of the agent.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    host: &'a Host,
}

impl Memory<'_> {
    /// Remembers a text (at most 64 KiB) with a JSON object of metadata (at most 64 KiB); returns its id. The newest
    /// 10,000 items and 4 MiB are kept: when memory is full, the oldest make room.
    ///
    /// # Errors
    /// What the host says, for example `permanent` for a text that is too long.
    pub fn remember(&self, text: &str, metadata: impl Serialize) -> Result<String, Failure> {
        self.host.remember(text, &serde_json::to_value(metadata)?)
    }

    /// The remembered items closest in meaning to the query, best first; at most 50.
    ///
    /// # Errors
    /// What the host says.
    pub fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryItem>, Failure> {
        self.host.recall(query, limit)
    }

    /// Forgets the item with this id; no error if there is none. Needs `"forget"` in `capabilities.memory`.
    ///
    /// # Errors
    /// What the host says.
    pub fn forget(&self, id: &str) -> Result<(), Failure> {
        self.host.forget(id)
    }
}

/// Ephemeral memory: small values, kept for one hour.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<'a> {
    host: &'a Host,
}

impl Scratch<'_> {
    /// The value under a key; none if it was never put or was forgotten.
    ///
    /// # Errors
    /// What the host says; `permanent`/`json` when the value has another shape than `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        match self.host.scratch_get(key)? {
            Some(value) => Ok(Some(serde_json::from_value(value)?)),
            None => Ok(None),
        }
    }

    /// Keeps a value (at most 64 KiB of JSON) under a key (at most 256 bytes) for one hour; at most 10,000 keys and 16 MiB
    /// at once.
    ///
    /// # Errors
    /// What the host says; `permanent`/`scratch-full` when there is no room: delete keys, or wait until they are forgotten.
    pub fn put(&self, key: &str, value: impl Serialize) -> Result<(), Failure> {
        self.host.scratch_put(key, &serde_json::to_value(value)?)
    }

    /// Forgets a key; no error if there is none.
    ///
    /// # Errors
    /// What the host says.
    pub fn delete(&self, key: &str) -> Result<(), Failure> {
        self.host.scratch_delete(key)
    }
}

/// What content is rising.
#[derive(Clone, Copy, Debug)]
pub struct Trends<'a> {
    host: &'a Host,
}

impl Trends<'_> {
    /// Notes that `weight` of `topic` was seen at `source`, now. The weight is 0 to 1e9; topic and source have
    /// at most 256 bytes.
    ///
    /// # Errors
    /// What the host says.
    pub fn observe(&self, topic: &str, weight: f64, source: &str) -> Result<(), Failure> {
        self.host.observe(topic, weight, source)
    }

    /// The strongest topics of the last `window` (whole seconds), strongest first; at most 100.
    ///
    /// # Errors
    /// What the host says.
    pub fn top(&self, window: Duration, limit: u32) -> Result<Vec<Trend>, Failure> {
        self.host.top_trends(window.as_secs(), limit)
    }
}

/// Other skills that this one was granted.
#[derive(Clone, Copy, Debug)]
pub struct Skills<'a> {
    host: &'a Host,
}

impl Skills<'_> {
    /// Runs another skill by name (`namespace/name`) and waits for its outcome, read into `T`. Its fuel and time
    /// come out of this task's.
    ///
    /// # Errors
    /// The other skill's failure, or the host's; `permanent`/`json` when the output has another shape than `T`.
    pub fn call<T: DeserializeOwned>(&self, name: &str, input: impl Serialize) -> Result<Outcome<T>, Failure> {
        self.call_within(name, input, Budget::new()).map(|called| called.outcome)
    }

    /// Runs another skill within a budget, and says what it used: so that a slow or costly callee leaves enough for what
    /// comes after it. A budget never gives more than the callee's own limits and what this task has left.
    ///
    /// # Errors
    /// As [`Skills::call`]; a callee that hits its budget fails as one that hits a limit.
    pub fn call_within<T: DeserializeOwned>(
        &self,
        name: &str,
        input: impl Serialize,
        budget: Budget,
    ) -> Result<Called<T>, Failure> {
        let input: Value = serde_json::to_value(input)?;
        let Called { outcome, time, fuel } = self.host.call_skill(name, &input, budget)?;
        let Outcome { output, confidence, evidence } = outcome;
        Ok(Called { outcome: Outcome { output: serde_json::from_value(output)?, confidence, evidence }, time, fuel })
    }
}

/// Logs a line of level `debug`: `debug!(ctx, "{} posts", posts.len())`.
#[macro_export]
macro_rules! debug {
    ($ctx:expr, $($message:tt)+) => { $ctx.log($crate::Level::Debug, ::std::format!($($message)+)) };
}

/// Logs a line of level `info`: `info!(ctx, "{} posts", posts.len())`.
#[macro_export]
macro_rules! info {
    ($ctx:expr, $($message:tt)+) => { $ctx.log($crate::Level::Info, ::std::format!($($message)+)) };
}

/// Logs a line of level `warn`: `warn!(ctx, "{} posts have no text", empty)`.
#[macro_export]
macro_rules! warn {
    ($ctx:expr, $($message:tt)+) => { $ctx.log($crate::Level::Warn, ::std::format!($($message)+)) };
}

/// Logs a line of level `error`: `error!(ctx, "no post could be read")`.
#[macro_export]
macro_rules! error {
    ($ctx:expr, $($message:tt)+) => { $ctx.log($crate::Level::Error, ::std::format!($($message)+)) };
}
