//! Tasks: what is to be done, where it is, and what came out.
//!
//! These are the values; the only function that moves a task from state to state is [`crate::machine::transition`].
//! Called from everywhere.

use crate::clock::Timestamp;
use crate::failure::Failure;
use crate::ids::{AgentId, ApprovalId, CampaignId, LeaseId, LineageId, SpecId, StepId, TaskId};
use crate::manifest::Limits;
use crate::skill::SkillRef;
use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Where a task is. The arrows between the states are in [`crate::machine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Committed, not yet on a queue.
    Pending,
    /// On a queue.
    Queued,
    /// A worker holds a lease.
    Running,
    /// A worker reported an outcome; the judge has not decided.
    Judging,
    /// A human must decide.
    AwaitingApproval,
    /// Failed for now; will be queued again.
    RetryWait,
    /// Final: good enough.
    Approved,
    /// Final: not acceptable.
    Rejected,
    /// Final: could not be done.
    Failed,
    /// Final: no longer wanted.
    Cancelled,
}

impl TaskState {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Queued,
        Self::Running,
        Self::Judging,
        Self::AwaitingApproval,
        Self::RetryWait,
        Self::Approved,
        Self::Rejected,
        Self::Failed,
        Self::Cancelled,
    ];

    /// No event changes a final state.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Approved | Self::Rejected | Self::Failed | Self::Cancelled)
    }

    /// The state's name on the wire and in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Judging => "judging",
            Self::AwaitingApproval => "awaiting_approval",
            Self::RetryWait => "retry_wait",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The right of one worker to one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The worker that holds it.
    pub worker: AgentId,
    /// When it runs out unless the worker's heart beats.
    pub until: Timestamp,
}

impl Lease {
    /// How long a lease lasts without a heartbeat.
    pub const DURATION: Duration = Duration::from_secs(45);
    /// How often a worker's heart beats.
    pub const HEARTBEAT: Duration = Duration::from_secs(10);
}

/// What a skill returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Valid against the skill's output schema.
    pub output: Value,
    /// 0 to 1.
    pub confidence: f64,
    /// Short reasons for a human.
    pub evidence: Vec<String>,
}

/// What one attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// From the start of the call to its end, waiting included, in milliseconds.
    pub wall_ms: u64,
    /// Fuel consumed.
    pub fuel: u64,
    /// Most linear memory at once, in bytes.
    pub peak_memory_bytes: u64,
    /// Calls of host functions.
    pub host_calls: u32,
    /// MCP calls among them.
    pub mcp_calls: u32,
}

impl Usage {
    /// This usage and another's together: sums, and the larger peak.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            wall_ms: self.wall_ms.saturating_add(other.wall_ms),
            fuel: self.fuel.saturating_add(other.fuel),
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            host_calls: self.host_calls.saturating_add(other.host_calls),
            mcp_calls: self.mcp_calls.saturating_add(other.mcp_calls),
        }
    }
}

/// What a task has to do (a row of `task_specs`). Never changed once written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its id.
    pub id: SpecId,
    /// What it is for, in words: what a judge is told.
    pub goal: String,
    /// The skill version.
    pub skill: SkillRef,
    /// The input, without references.
    pub input: Value,
    /// At most the manifest's limits.
    pub limits: Limits,
    /// A JSON subset that the output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
}

/// A task (a row of `tasks`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its campaign; none when it came through `POST /assign_task` by itself.
    pub campaign: Option<CampaignId>,
    /// Its step.
    pub step: Option<StepId>,
    /// What it stands for across retry and replan.
    pub lineage: LineageId,
    /// The shard whose queue it is on.
    pub planner_id: String,
    /// What it has to do.
    pub spec_id: SpecId,
    /// Where it is.
    pub state: TaskState,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// The fencing token: counts leases given.
    pub attempt: u32,
    /// Counts fresh starts: a new epoch starts with an empty journal.
    pub epoch: u32,
    /// The lease, while running.
    pub lease: Option<Lease>,
    /// The worker of the last lease.
    pub worker_id: Option<AgentId>,
    /// Transient failures so far.
    pub retries: u32,
    /// Workers that died on it so far.
    pub deaths: u32,
    /// How often the host ended without notice while it ran.
    #[serde(default)]
    pub restarts: u32,
    /// In `retry_wait`: when it is queued again.
    pub run_after: Option<Timestamp>,
    /// In `awaiting_approval`: the question.
    pub waiting_on: Option<ApprovalId>,
    /// After this moment it is not started any more.
    pub deadline: Option<Timestamp>,
    /// What the last attempt returned.
    pub outcome: Option<Outcome>,
    /// What the last attempt failed with.
    pub failure: Option<Failure>,
    /// What all attempts used.
    pub usage: Usage,
    /// What the judge said.
    pub verdict: Option<Verdict>,
    /// Changes so far; a change made from an older revision is stale.
    pub rev: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Task {
    /// The confidence of the last outcome.
    pub fn confidence(&self) -> Option<f64> {
        self.outcome.as_ref().map(|outcome| outcome.confidence)
    }

    /// Does this lease and attempt still hold the task?
    pub fn is_held_by(&self, lease: LeaseId, attempt: u32) -> bool {
        self.state == TaskState::Running
            && self.attempt == attempt
            && self.lease.as_ref().is_some_and(|held| held.id == lease)
    }
}
