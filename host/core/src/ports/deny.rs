//! The ports of a run that may reach nothing.
//!
//! Every question is answered with a refusal, and nothing is kept. Used for self-tests, replays and benchmarks, and wherever
//! nothing is granted.

use super::*;
use crate::clock::ManualClock;

impl HostPorts {
    /// Ports that refuse everything; the clock stands at the epoch.
    pub fn deny_all() -> Self {
        Self {
            mcp: Arc::new(Deny),
            memory: Arc::new(Deny),
            scratch: Arc::new(Deny),
            trends: Arc::new(Deny),
            skills: Arc::new(Deny),
            secrets: Arc::new(Deny),
            progress: Arc::new(Deny),
            journal: Arc::new(Deny),
            clock: Arc::new(ManualClock::new(Timestamp::EPOCH)),
            seed: 0,
        }
    }
}

/// Refuses everything a guest could ask for; keeps no journal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deny;

fn denied<T>(what: &str) -> Result<T, HostError> {
    let message = format!("{what} is not granted; an operator can grant it with `chimera grant add`");
    Err(Failure::new(FailureKind::Denied, codes::NOT_GRANTED, message).into())
}

#[async_trait]
impl McpPort for Deny {
    async fn list_tools(&self, slot: &str, _: Instant) -> Result<Vec<ToolInfo>, HostError> {
        denied(&format!("slot `{slot}`"))
    }
    async fn call_tool(&self, call: ToolCall, _: Instant) -> Result<ToolAnswer, HostError> {
        denied(&format!("tool `{}` of slot `{}`", call.tool, call.slot))
    }
    async fn read_resource(&self, slot: &str, _: &str, _: Instant) -> Result<String, HostError> {
        denied(&format!("a resource of slot `{slot}`"))
    }
    async fn replayed(&self, _: &ToolCall) {}
}

#[async_trait]
impl MemoryPort for Deny {
    async fn remember(&self, _: u32, _: &str, _: Value) -> Result<String, HostError> {
        denied("memory")
    }
    async fn recall(&self, _: &str, _: u32) -> Result<Vec<MemoryHit>, HostError> {
        denied("memory")
    }
    async fn forget(&self, _: &str) -> Result<(), HostError> {
        denied("memory")
    }
}

#[async_trait]
impl ScratchPort for Deny {
    async fn get(&self, _: &str) -> Result<Option<Value>, HostError> {
        denied("scratch")
    }
    async fn put(&self, _: &str, _: Value) -> Result<(), HostError> {
        denied("scratch")
    }
    async fn delete(&self, _: &str) -> Result<(), HostError> {
        denied("scratch")
    }
}

#[async_trait]
impl TrendsPort for Deny {
    async fn observe(&self, _: u32, _: &str, _: f64, _: &str) -> Result<(), HostError> {
        denied("trends")
    }
    async fn top(&self, _: Duration, _: u32) -> Result<Vec<TrendTop>, HostError> {
        denied("trends")
    }
}

#[async_trait]
impl SkillsPort for Deny {
    async fn call(&self, _: u32, name: &SkillName, _: Value, _: Budget) -> Called {
        Called { result: denied(&format!("skill `{name}`")), fuel: 0, wall_ms: 0, calls: 0 }
    }
}

#[async_trait]
impl SecretsPort for Deny {
    async fn exists(&self, _: &str) -> bool {
        false
    }
}

impl ProgressPort for Deny {
    fn report(&self, _: f64, _: &str) {}
    fn log(&self, _: LogLevel, _: &str) {}
}

#[async_trait]
impl Journal for Deny {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        Ok(Vec::new())
    }
    async fn append(&self, _: Vec<JournalEntry>) -> Result<(), PortError> {
        Ok(())
    }
}
