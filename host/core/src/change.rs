//! The one way to change the truth: a [`Change`] is a list of guards, writes and audit events that the store applies
//! atomically or not at all.
//!
//! A guard that does not hold makes the change stale; the caller reads again and decides anew. This module applies
//! nothing. Made by [`crate::machine`], [`crate::campaign`] and the agents; applied by `store`.

use crate::approval::Approval;
use crate::audit::{Actor, AuditDraft};
use crate::campaign::Campaign;
use crate::clock::Timestamp;
use crate::effect::{Effect, EffectState};
use crate::grant::Grant;
use crate::ids::{AgentId, ApprovalId, CampaignId, EffectId, IdSource, LeaseId, OutboxId, StepId, TaskId};
use crate::journal::JournalEntry;
use crate::plan::Step;
use crate::records::{Agent, ApiToken, MemoryItem, ScratchItem, TrendItem};
use crate::route::{Route, RunMark};
use crate::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use crate::task::{Task, TaskSpec};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// What every decision is given: the present, the source of ids, who acts, and chance.
#[derive(Clone)]
pub struct Context<'a> {
    /// The present.
    pub now: Timestamp,
    /// Where new ids come from.
    pub ids: &'a dyn IdSource,
    /// Who acts.
    pub actor: Actor,
    /// A uniform random number in 0..1, for jitter.
    pub chance: f64,
}

impl Context<'_> {
    /// An audit event by who acts, now; see [`AuditDraft::new`].
    pub fn event(&self, action: impl Into<Cow<'static, str>>) -> AuditDraft {
        AuditDraft::new(action, self.actor.clone(), self.now)
    }
}

/// Guards, writes and audit events that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Applied in order.
    pub writes: Vec<Write>,
    /// Appended to their chains in order.
    pub audit: Vec<AuditDraft>,
    /// What must outlast a loss of power before it is answered.
    pub durability: Durability,
}

/// How long a commit is waited for. Changes are kept in their order whatever it is: what a loss of power takes away is
/// always the newest, and a change that was waited for brings all those before it along. The end of the process takes
/// nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Until it is on disk.
    #[default]
    Now,
    /// Until others see it: for what nothing outside follows from, such as who works on what. Lost, it is done again.
    WithNext,
}

impl Durability {
    /// What both wait for.
    pub fn and(self, other: Self) -> Self {
        if self == Self::WithNext { other } else { self }
    }
}

impl Change {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Need not be waited for until it is on disk.
    #[must_use]
    pub fn with_next(self) -> Self {
        Self { durability: Durability::WithNext, ..self }
    }

    /// Adds a guard.
    pub fn guard(&mut self, guard: Guard) {
        self.guards.push(guard);
    }

    /// Adds a write.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Adds an audit event.
    pub fn audit(&mut self, draft: AuditDraft) {
        self.audit.push(draft);
    }

    /// Adds a change that was decided from what this one writes, so that both are one: what it guards of the tasks that are
    /// written here holds by itself, and of such a task only its later state is written. Its durability is the caller's to
    /// decide.
    pub fn then(&mut self, later: Self) {
        let Self { guards, writes, audit, durability: _ } = later;
        let is_own = |guard: &Guard| {
            let Guard::TaskRev(id, rev) = guard else { return false };
            self.writes.iter().any(|write| matches!(write, Write::PutTask(task) if task.id == *id && task.rev == *rev))
        };
        let others: Vec<Guard> = guards.into_iter().filter(|guard| !is_own(guard)).collect();
        for write in &writes {
            if let Write::PutTask(after) = write {
                self.writes.retain(|before| !matches!(before, Write::PutTask(task) if task.id == after.id));
            }
        }
        self.guards.extend(others);
        self.writes.extend(writes);
        self.audit.extend(audit);
    }

    /// Adds everything of another change; its durability is the caller's to decide.
    pub fn extend(&mut self, other: Self) {
        self.guards.extend(other.guards);
        self.writes.extend(other.writes);
        self.audit.extend(other.audit);
    }
}

/// What must be so, at the moment of the commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Guard {
    /// There is no task of this id.
    TaskAbsent(TaskId),
    /// The task is at this revision.
    TaskRev(TaskId, u64),
    /// The campaign is at this revision.
    CampaignRev(CampaignId, u64),
    /// The task is running under this lease and attempt.
    LeaseCurrent(TaskId, LeaseId, u32),
    /// The approval is open.
    ApprovalOpen(ApprovalId),
    /// The effect is in this state.
    EffectIs(EffectId, EffectState),
    /// The ledger has no effect with this id's key (lineage, ordinal, tool, arguments).
    EffectAbsent(crate::effect::EffectKey),
    /// The outbox row has not been deleted.
    OutboxPresent(OutboxId),
    /// No version of this name and version is installed.
    SkillAbsent(SkillRef),
    /// The route of this skill is at this revision; 0 when it has none.
    RouteRev(SkillName, u64),
    /// No journal entry of this task and epoch has this ordinal.
    JournalAbsent(TaskId, u32, u32),
    /// With a value of this many bytes (its key's included) under this key, the agent's ephemeral memory is within
    /// [`ScratchItem::MAX_KEYS`] and [`ScratchItem::MAX_BYTES`].
    ScratchRoom(AgentId, String, usize),
}

/// One row written. `Put…` inserts, or replaces the row of the same id.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A campaign.
    PutCampaign(Campaign),
    /// A step.
    PutStep(Step),
    /// A task's specification.
    PutSpec(TaskSpec),
    /// A task; its spec, campaign, step and birth stay what they were when it was written first.
    PutTask(Task),
    /// A row to be relayed.
    PutOutbox(Outbox),
    /// A row that was relayed.
    DeleteOutbox(OutboxId),
    /// A question to a human.
    PutApproval(Approval),
    /// A grant.
    PutGrant(Grant),
    /// An effect.
    PutEffect(Effect),
    /// Journal entries of a task's epoch.
    AppendJournal {
        /// The task.
        task: TaskId,
        /// Its epoch.
        epoch: u32,
        /// The entries.
        entries: Vec<JournalEntry>,
    },
    /// A version of a skill.
    PutSkill(SkillVersion),
    /// Only the state of an installed version.
    SetSkillState(SkillRef, SkillState),
    /// Which version of a skill new work gets.
    PutRoute(Route),
    /// One more run of a version, counted if it is on trial now, and nothing else. No guard is needed: counts add up in any
    /// order.
    CountRun(SkillRef, RunMark),
    /// An agent.
    PutAgent(Agent),
    /// That an agent was seen.
    TouchAgent(AgentId, Timestamp),
    /// An API token.
    PutToken(ApiToken),
    /// A remembered text; the agent's oldest go when it is more than [`MemoryItem::MAX_ITEMS`] or
    /// [`MemoryItem::MAX_BYTES`] allow.
    PutMemory(MemoryItem),
    /// A remembered text is forgotten; nothing happens if the agent has none of that id.
    DeleteMemory(AgentId, Uuid),
    /// A value of ephemeral memory.
    PutScratch(ScratchItem),
    /// A value of ephemeral memory is forgotten.
    DeleteScratch(AgentId, String),
    /// An observation; the agent's oldest go when they are more than [`TrendItem::MAX_ITEMS`].
    AddTrend(TrendItem),
}

/// Something that must be carried to somebody once its transaction is committed (a row of `outbox`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    /// Its id.
    pub id: OutboxId,
    /// To whom.
    pub topic: OutboxTopic,
    /// The shard.
    pub planner_id: String,
    /// What it is about.
    pub campaign: Option<CampaignId>,
    /// What it is about.
    pub task: Option<TaskId>,
    /// What it is about.
    pub step: Option<StepId>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// Not before this moment.
    pub available_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
}

/// To whom an outbox row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxTopic {
    /// The relay: put the task on the queue.
    Dispatch,
    /// The judge: a task was reported.
    Judge,
    /// The planner: make a plan for the campaign.
    Plan,
    /// The planner: a task failed for good, find another way.
    Replan,
}

impl OutboxTopic {
    /// The topic's name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Judge => "judge",
            Self::Plan => "plan",
            Self::Replan => "replan",
        }
    }
}

impl Outbox {
    /// A row about a task, available at once.
    pub fn for_task(topic: OutboxTopic, task: &Task, cx: &Context<'_>) -> Self {
        Self {
            id: OutboxId::new(cx.ids),
            topic,
            planner_id: task.planner_id.clone(),
            campaign: task.campaign,
            task: Some(task.id),
            step: task.step,
            priority: task.priority,
            available_at: cx.now,
            created_at: cx.now,
        }
    }

    /// A row about a campaign, available at once.
    pub fn for_campaign(topic: OutboxTopic, campaign: &Campaign, cx: &Context<'_>) -> Self {
        Self {
            id: OutboxId::new(cx.ids),
            topic,
            planner_id: campaign.planner_id.clone(),
            campaign: Some(campaign.id),
            task: None,
            step: None,
            priority: 5,
            available_at: cx.now,
            created_at: cx.now,
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a stale change wrote nothing: read again and decide anew"]
pub enum Committed {
    /// Durable.
    Applied,
    /// Nothing was written: this guard did not hold.
    Stale(Guard),
}
