//! The ports: what the rooms ask of each other, as traits.
//!
//! A trait a concern; what a run may reach has an implementation that refuses everything ([`Deny`]) and, where a run must be reproduced
//! without the outside, a recorded one in [`crate::recorded`]. Nothing in this module does any I/O. The sandbox is given
//! [`HostPorts`]; store, gateway, index and registry implement the rest.

mod deny;
mod rates;
mod scratch;

pub use deny::Deny;
pub use rates::RateLimits;
pub use scratch::{Holder, Scratch, ScratchWritten, TruthScratch};

use crate::approval::{Approval, ApprovalState};
use crate::audit::{AuditEvent, Head};
use crate::campaign::{Campaign, CampaignState, CampaignView};
use crate::change::{Change, Committed, Outbox, OutboxTopic};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::effect::Effect;
use crate::failure::{Failure, FailureKind, codes};
use crate::grant::Grant;
use crate::ids::{AgentId, ApprovalId, CampaignId, EffectId, GrantId, LeaseId, LineageId, SpecId, TaskId};
use crate::journal::JournalEntry;
use crate::manifest::Manifest;
use crate::records::{Agent, ApiToken, MemoryItem, ScratchItem, TrendTop};
use crate::route::Route;
use crate::skill::{SkillName, SkillRef, SkillVersion};
use crate::task::{Outcome, Task, TaskSpec, TaskState};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

// ---------------------------------------------------------------------------------------------------------------------
// Truth

/// What went wrong below a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// Decides what the caller does.
    pub kind: PortErrorKind,
    /// For the log and the operator.
    pub message: String,
}

/// Decides what the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortErrorKind {
    /// May work later.
    Unavailable,
    /// Stored data cannot be read as what it should be.
    Corrupt,
    /// The room is closing.
    Closed,
    /// It will not work.
    Permanent,
}

impl PortError {
    /// An error of that kind.
    pub fn new(kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFilter {
    /// Only of this campaign.
    pub campaign: Option<CampaignId>,
    /// Only in these states; all if empty.
    pub states: Vec<TaskState>,
    /// At most this many (newest first); the store caps it at 1,000.
    pub limit: Option<u32>,
}

/// Which approvals to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApprovalFilter {
    /// Only of this campaign.
    pub campaign: Option<CampaignId>,
    /// Only in this state.
    pub state: Option<ApprovalState>,
    /// Only those whose deadline is before this moment.
    pub due_before: Option<Timestamp>,
}

/// A task that waits for a worker: what a queue needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingTask {
    /// The task.
    pub task: TaskId,
    /// Its shard.
    pub planner_id: String,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What listeners are told after each commit; hints only, the truth is read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// An event was appended to a chain.
    Audited(Arc<AuditEvent>),
    /// A row was put into the outbox under this topic.
    Outbox(OutboxTopic),
    /// Tasks were put on a queue.
    Queued,
    /// Versions or routes of a skill were changed; of any if none is named.
    Skills(Option<SkillName>),
    /// Another process appended events that are not told one by one.
    Elsewhere,
    /// Progress of a running task; not durable.
    Progress {
        /// The campaign.
        campaign: Option<CampaignId>,
        /// The task.
        task: TaskId,
        /// 0 to 1.
        fraction: f64,
        /// For people.
        message: String,
    },
}

/// The truth: one way to change it, many to read it. Implemented by `store` (SQLite | PostgreSQL).
#[async_trait]
pub trait Truth: Send + Sync {
    /// Applies a change atomically; returns once it is durable. Many changes share one transaction, and a stale one
    /// never fails its neighbours.
    async fn commit(&self, change: Change) -> Result<Committed, PortError>;
    /// Applies many changes, each by itself as [`Truth::commit`] does; answers in their order, once all are decided.
    /// They are handed over in that order, and nobody is woken for each of them.
    async fn commit_all(&self, changes: Vec<Change>) -> Vec<Result<Committed, PortError>> {
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            answers.push(self.commit(change).await);
        }
        answers
    }
    /// Hears of every commit of this process, and hints of those of others.
    fn subscribe(&self) -> listen::Receiver;
    /// Tells this process's listeners something that is not durable; what wakes workers is told to other processes' too.
    fn tell(&self, notice: Notice);

    /// One campaign.
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, PortError>;
    /// One campaign with its steps and tasks, read in one transaction.
    async fn campaign_view(&self, id: CampaignId) -> Result<Option<CampaignView>, PortError>;
    /// Campaigns, newest first, at most 1,000; all states if none is given.
    async fn campaigns(&self, states: &[CampaignState]) -> Result<Vec<Campaign>, PortError>;
    /// One task.
    async fn task(&self, id: TaskId) -> Result<Option<Task>, PortError>;
    /// Tasks by their ids, in that order; one that many are read with costs little.
    async fn tasks_by_ids(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, PortError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.push(self.task(*id).await?);
        }
        Ok(found)
    }
    /// Tasks, newest first.
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, PortError>;
    /// Tasks that wait for a worker (`queued`), oldest first, from `after` (exclusive), at most `limit`.
    async fn queued(&self, after: Option<&WaitingTask>, limit: u32) -> Result<Vec<WaitingTask>, PortError>;
    /// What a task has to do.
    async fn spec(&self, id: SpecId) -> Result<Option<TaskSpec>, PortError>;
    /// Specifications by their ids, as [`Truth::tasks_by_ids`].
    async fn specs_by_ids(&self, ids: &[SpecId]) -> Result<Vec<Option<TaskSpec>>, PortError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.push(self.spec(*id).await?);
        }
        Ok(found)
    }
    /// Running tasks whose lease ran out before `now`.
    async fn expired_leases(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError>;
    /// Tasks in `retry_wait` whose time has come.
    async fn due_retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError>;

    /// One approval.
    async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>, PortError>;
    /// Approvals, oldest first, at most 1,000.
    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, PortError>;
    /// Every grant of a skill, revoked ones included; of all skills if none is given.
    async fn grants(&self, skill: Option<&SkillName>) -> Result<Vec<Grant>, PortError>;
    /// One grant.
    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, PortError>;
    /// The ledger of one lineage, oldest first.
    async fn effects(&self, lineage: LineageId) -> Result<Vec<Effect>, PortError>;
    /// One effect.
    async fn effect(&self, id: EffectId) -> Result<Option<Effect>, PortError>;
    /// The journal of a task's epoch, by ordinal.
    async fn journal(&self, task: TaskId, epoch: u32) -> Result<Vec<JournalEntry>, PortError>;

    /// Claims up to `limit` rows of a topic that are due, highest priority first: until `claimed_until` no other
    /// claim gets them. The row goes with [`crate::change::Write::DeleteOutbox`]; an unfinished claim is claimed again.
    async fn claim_outbox(
        &self,
        topic: OutboxTopic,
        now: Timestamp,
        claimed_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Outbox>, PortError>;
    /// Lifts every claim (at start, when no other process can hold one).
    async fn release_outbox_claims(&self) -> Result<(), PortError>;

    /// Installed versions; of all skills if no name is given.
    async fn skills(&self, name: Option<&SkillName>) -> Result<Vec<SkillVersion>, PortError>;
    /// Which version new work gets: of one skill, or of all that have a route.
    async fn routes(&self, name: Option<&SkillName>) -> Result<Vec<Route>, PortError>;
    /// Agents, oldest first.
    async fn agents(&self) -> Result<Vec<Agent>, PortError>;
    /// Tokens, oldest first.
    async fn tokens(&self) -> Result<Vec<ApiToken>, PortError>;
    /// One chain of the audit log from `after` (exclusive), in order, at most `limit` events.
    async fn audit(&self, chain: Option<CampaignId>, after: u64, limit: u32) -> Result<Vec<AuditEvent>, PortError>;
    /// What happened to one task, in order, at most `limit` events: those of `chain`, its campaign's or the system's.
    async fn audit_of(&self, chain: Option<CampaignId>, task: TaskId, limit: u32)
    -> Result<Vec<AuditEvent>, PortError>;
    /// The chains that have or had events: every campaign's, and `None` for the system's.
    async fn audit_chains(&self) -> Result<Vec<Option<CampaignId>>, PortError>;
    /// Where a chain ended when its last event was appended; none if nothing was ever appended to it.
    async fn audit_head(&self, chain: Option<CampaignId>) -> Result<Option<Head>, PortError>;

    /// Everything an agent remembers; of all agents if none is given.
    async fn memory(&self, agent: Option<AgentId>) -> Result<Vec<MemoryItem>, PortError>;
    /// A value of ephemeral memory that has not expired.
    async fn scratch(&self, agent: AgentId, key: &str, now: Timestamp) -> Result<Option<ScratchItem>, PortError>;
    /// The strongest topics since a moment.
    async fn top_trends(&self, since: Timestamp, limit: u32) -> Result<Vec<TrendTop>, PortError>;
}

/// The channel that [`Truth::subscribe`] gives, without a runtime in this crate.
pub mod listen {
    use super::Notice;
    use async_trait::async_trait;

    /// A listener's end. Dropping it unsubscribes.
    pub type Receiver = Box<dyn Listener>;

    /// Hears notices.
    #[async_trait]
    pub trait Listener: Send {
        /// The next notice; [`Heard::Missed`] when the listener was too slow and some were dropped.
        async fn next(&mut self) -> Heard;
    }

    /// What a listener hears.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Heard {
        /// A notice.
        Notice(Notice),
        /// Some were dropped: read the truth again.
        Missed,
        /// No more will come.
        Closed,
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Queue

/// A task on a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// What [`Queue::ack`] is told.
    pub receipt: String,
    /// The task.
    pub task: TaskId,
}

/// Transport of ready tasks. Losing it loses nothing: the sweeper fills it again from the truth.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts tasks on a shard's queue; a task that is on it already stays where it is.
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], now: Timestamp) -> Result<(), PortError>;
    /// Takes up to `limit` tasks, highest priority first; they come back after `visible_again` unless acknowledged.
    async fn claim(
        &self,
        planner_id: &str,
        limit: u32,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Queued>, PortError>;
    /// Takes a claimed task off the queue.
    async fn ack(&self, planner_id: &str, receipt: &str) -> Result<(), PortError>;
    /// Makes every claimed task visible (at start, when no other process can hold one).
    async fn release_claims(&self) -> Result<(), PortError>;
    /// Number of tasks on the queue, claimed ones included.
    async fn len(&self, planner_id: &str) -> Result<u64, PortError>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Skills' bytes, the index

/// Content-addressed bytes of components.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Keeps bytes; returns their digest. Keeping the same bytes twice is no error.
    async fn put(&self, bytes: &[u8]) -> Result<Digest, PortError>;
    /// The bytes of a digest, checked against it; none if there are none.
    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PortError>;
}

/// What the index knows of a skill version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillHit {
    /// The version.
    pub skill: SkillRef,
    /// Its summary.
    pub summary: String,
    /// Similarity, 0 to 1.
    pub score: f64,
    /// The words that made it fit.
    pub matched: Vec<String>,
}

/// The semantic index of skills (class `Skills`).
#[async_trait]
pub trait SkillIndex: Send + Sync {
    /// Adds or replaces a version.
    async fn put(&self, version: &SkillVersion) -> Result<(), PortError>;
    /// Removes a version.
    async fn remove(&self, skill: &SkillRef) -> Result<(), PortError>;
    /// The versions nearest to a text, best first; only [`crate::skill::SkillState::Active`] ones, and of each name
    /// only the newest.
    async fn search(&self, text: &str, limit: usize) -> Result<Vec<SkillHit>, PortError>;
}

/// A remembered text and how near it is to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryHit {
    /// The item.
    pub item: MemoryItem,
    /// Similarity, 0 to 1.
    pub score: f64,
}

/// The semantic index of agents' memory (class `AgentMemory`).
#[async_trait]
pub trait MemoryIndex: Send + Sync {
    /// Adds or replaces an item.
    async fn put(&self, item: &MemoryItem) -> Result<(), PortError>;
    /// Forgets an item of an agent; no error if there is none.
    async fn forget(&self, agent: AgentId, item: Uuid) -> Result<(), PortError>;
    /// The agent's items nearest to a text, best first.
    async fn search(&self, agent: AgentId, text: &str, limit: usize) -> Result<Vec<MemoryHit>, PortError>;
}

// ---------------------------------------------------------------------------------------------------------------------
// What a guest may reach

/// Who is running, for the ports that serve the run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The task.
    pub task: TaskId,
    /// Its campaign.
    pub campaign: Option<CampaignId>,
    /// Survives retry and replan.
    pub lineage: LineageId,
    /// The lease it runs under; none for a run outside any task (`skill run`, self-tests): no effect may be sent then.
    pub lease: Option<LeaseId>,
    /// The fencing token.
    pub attempt: u32,
    /// The journal's epoch.
    pub epoch: u32,
    /// The agent whose memory it sees.
    pub agent: AgentId,
    /// The skill version.
    pub skill: SkillRef,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
}

/// Why a host call gave the guest no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum HostError {
    /// The guest is told this failure; a [`FailureKind::Security`] one ends the run at once.
    Failure(Failure),
    /// The run stops here: a human must decide first.
    Suspend(ApprovalId),
    /// The run ends with this failure. The guest is not told and nothing is journalled, so that a later run gets to the
    /// same call again under the same number: what may have happened is settled before anything else is asked for.
    End(Failure),
}

impl HostError {
    /// What a guest would have been told ends the run instead.
    pub fn ending(self) -> Self {
        match self {
            Self::Failure(failure) => Self::End(failure),
            other => other,
        }
    }
}

impl From<Failure> for HostError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<PortError> for HostError {
    fn from(error: PortError) -> Self {
        let kind = match error.kind {
            PortErrorKind::Unavailable | PortErrorKind::Closed => FailureKind::Transient,
            PortErrorKind::Corrupt | PortErrorKind::Permanent => FailureKind::Permanent,
        };
        Self::Failure(Failure::new(kind, codes::HOST, error.message))
    }
}

/// One MCP call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Which MCP call of the run it is, from 0, assigned before dispatch.
    pub ordinal: u32,
    /// The slot.
    pub slot: String,
    /// The tool.
    pub tool: String,
    /// A JSON object.
    pub arguments: Value,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolAnswer {
    /// The text parts, joined by newlines.
    pub text: String,
    /// The structured content.
    #[serde(default)]
    pub structured: Option<Value>,
    /// The tool itself reported an error.
    #[serde(default)]
    pub is_error: bool,
}

impl ToolAnswer {
    /// The answer of an effect that a human says has happened.
    pub fn told_by_human(told: Value) -> Self {
        Self { text: told.to_string(), structured: Some(told), is_error: false }
    }
}

/// A tool that a guest may see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
}

/// The outside world. Implemented by the gateway for one [`Invocation`].
#[async_trait]
pub trait McpPort: Send + Sync {
    /// The tools of a slot that manifest and grant both allow.
    async fn list_tools(&self, slot: &str, deadline: Instant) -> Result<Vec<ToolInfo>, HostError>;
    /// Calls one tool. Dropping the future must be safe at any moment: an effect stays an intent then.
    async fn call_tool(&self, call: ToolCall, deadline: Instant) -> Result<ToolAnswer, HostError>;
    /// Reads one resource.
    async fn read_resource(&self, slot: &str, uri: &str, deadline: Instant) -> Result<String, HostError>;
    /// The journal answered this call: the run has asked for it again, nothing is to be sent.
    async fn replayed(&self, call: &ToolCall);
}

/// What opens the outside world for one run.
pub trait McpGateway: Send + Sync {
    /// A port that serves this invocation and no other.
    fn open(&self, invocation: Invocation) -> Arc<dyn McpPort>;
}

/// Long-term memory.
#[async_trait]
pub trait MemoryPort: Send + Sync {
    /// Remembers a text; `ordinal` is the host call's number, so that a call repeated after a crash remembers once.
    async fn remember(&self, ordinal: u32, text: &str, metadata: Value) -> Result<String, HostError>;
    /// The nearest items, best first.
    async fn recall(&self, query: &str, limit: u32) -> Result<Vec<MemoryHit>, HostError>;
    /// Forgets an item; no error if there is none, or if the id is no id at all.
    async fn forget(&self, id: &str) -> Result<(), HostError>;
}

/// Ephemeral memory.
#[async_trait]
pub trait ScratchPort: Send + Sync {
    /// The value under a key.
    async fn get(&self, key: &str) -> Result<Option<Value>, HostError>;
    /// Keeps a value for an hour.
    async fn put(&self, key: &str, value: Value) -> Result<(), HostError>;
    /// Forgets a value.
    async fn delete(&self, key: &str) -> Result<(), HostError>;
}

/// Content trends.
#[async_trait]
pub trait TrendsPort: Send + Sync {
    /// Notes an observation; `ordinal` as in [`MemoryPort::remember`].
    async fn observe(&self, ordinal: u32, topic: &str, weight: f64, source: &str) -> Result<(), HostError>;
    /// The strongest topics of the last `window`.
    async fn top(&self, window: Duration, limit: u32) -> Result<Vec<TrendTop>, HostError>;
}

/// Other skills.
#[async_trait]
pub trait SkillsPort: Send + Sync {
    /// Runs another skill within what is left of the caller's time and fuel.
    async fn call(&self, ordinal: u32, name: &SkillName, input: Value, budget: Budget) -> Called;
}

/// What became of a call of another skill.
#[derive(Debug, Clone, PartialEq)]
pub struct Called {
    /// What it returned, or why it returned nothing.
    pub result: Result<Outcome, HostError>,
    /// The fuel it took, also when it failed: it comes out of the caller's.
    pub fuel: u64,
    /// Milliseconds of wall time it took.
    pub wall_ms: u64,
    /// The calls of skills that it and its own callees made: they come out of the caller's.
    pub calls: u32,
}

impl Called {
    /// The callee was not run.
    pub fn not_run(error: impl Into<HostError>) -> Self {
        Self { result: Err(error.into()), fuel: 0, wall_ms: 0, calls: 0 }
    }
}

/// What a callee may use: what is left of its caller's, or what of that the caller gives it.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Until when.
    pub deadline: Instant,
    /// Fuel.
    pub fuel: u64,
    /// Calls of skills, its callees' included.
    pub calls: u32,
    /// What its caller said of the first two, which are never more.
    pub asked: AskedBudget,
}

impl Budget {
    /// Most calls of skills in one task, whoever of the callees makes them.
    pub const MAX_CALLS: u32 = 256;
}

/// What a caller says that its callee may use at most; what it does not say is whatever it has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AskedBudget {
    /// Milliseconds of wall time.
    pub time_ms: Option<u64>,
    /// Fuel.
    pub fuel: Option<u64>,
}

/// Which secrets are configured.
#[async_trait]
pub trait SecretsPort: Send + Sync {
    /// Is a secret of this name configured?
    async fn exists(&self, name: &str) -> bool;
}

/// What people watching see.
pub trait ProgressPort: Send + Sync {
    /// How far along.
    fn report(&self, fraction: f64, message: &str);
    /// A log line.
    fn log(&self, level: LogLevel, message: &str);
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For the curious.
    Info,
    /// For the operator.
    Warn,
    /// For the operator, now.
    Error,
}

/// Where a run's host answers are kept.
#[async_trait]
pub trait Journal: Send + Sync {
    /// What earlier runs of this task and epoch were answered, by ordinal.
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError>;
    /// Keeps answers; durable when it returns. Refused with [`PortErrorKind::Closed`] when the lease is not current.
    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError>;
}

/// Everything a run may reach.
#[derive(Clone)]
pub struct HostPorts {
    /// MCP.
    pub mcp: Arc<dyn McpPort>,
    /// Long-term memory.
    pub memory: Arc<dyn MemoryPort>,
    /// Ephemeral memory.
    pub scratch: Arc<dyn ScratchPort>,
    /// Content trends.
    pub trends: Arc<dyn TrendsPort>,
    /// Other skills.
    pub skills: Arc<dyn SkillsPort>,
    /// Secrets.
    pub secrets: Arc<dyn SecretsPort>,
    /// Progress and logs.
    pub progress: Arc<dyn ProgressPort>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The wall clock that the guest is shown (through the journal).
    pub clock: Arc<dyn crate::clock::Clock>,
    /// Seed of the guest's random numbers: drawn once, and journalled.
    pub seed: u64,
}

impl fmt::Debug for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostPorts").field("seed", &self.seed).finish_non_exhaustive()
    }
}
