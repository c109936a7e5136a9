//! Approvals: durable questions to a human, with a deadline.
//!
//! A question is decided once; an expired one escalates or is rejected and is never approved by time. This module holds
//! the values and the rule of expiry. Called by the gateway (effects), the judge (verdicts), the planner (questions),
//! the API and the CLI.

use crate::audit::Actor;
use crate::change::Context;
use crate::clock::Timestamp;
use crate::ids::{ApprovalId, CampaignId, EffectId, TaskId};
use crate::task::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// A question to a human (a row of `approvals`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The campaign that waits.
    pub campaign: Option<CampaignId>,
    /// The task that waits.
    pub task: Option<TaskId>,
    /// What is asked.
    pub kind: ApprovalKind,
    /// One line: what happens on approval.
    pub title: String,
    /// Why it is asked.
    pub reason: String,
    /// The exact thing to decide on: for an effect `{server, slot, tool, arguments}`, for a question `{schema}`, …
    pub payload: Value,
    /// The effect in the ledger, for kinds that are about one.
    pub effect: Option<EffectId>,
    /// Open or decided.
    pub state: ApprovalState,
    /// How often it ran past its deadline.
    pub escalations: u32,
    /// When it escalates or is rejected.
    pub deadline: Timestamp,
    /// When it was asked.
    pub created_at: Timestamp,
    /// Who decided.
    pub decided_by: Option<Actor>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// What the human changed or answered: the new arguments, or the answer to a question.
    pub edited: Option<Value>,
    /// What the human noted.
    pub note: Option<String>,
}

impl Approval {
    /// How long a human has.
    pub const DEADLINE: Duration = Duration::from_secs(15 * 60);

    /// An open question about a task.
    pub fn about_task(
        kind: ApprovalKind,
        task: &Task,
        title: impl Into<String>,
        reason: impl Into<String>,
        payload: Value,
        cx: &Context<'_>,
    ) -> Self {
        Self { campaign: task.campaign, task: Some(task.id), ..Self::open(kind, title, reason, payload, cx) }
    }

    /// An open question.
    pub fn open(
        kind: ApprovalKind,
        title: impl Into<String>,
        reason: impl Into<String>,
        payload: Value,
        cx: &Context<'_>,
    ) -> Self {
        Self {
            id: ApprovalId::new(cx.ids),
            campaign: None,
            task: None,
            kind,
            title: title.into(),
            reason: reason.into(),
            payload,
            effect: None,
            state: ApprovalState::Open,
            escalations: 0,
            deadline: cx.now.plus(Self::DEADLINE),
            created_at: cx.now,
            decided_by: None,
            decided_at: None,
            edited: None,
            note: None,
        }
    }

    /// The same question with a human's answer.
    #[must_use]
    pub fn decided(&self, answer: &Answer, cx: &Context<'_>) -> Self {
        let state = match answer.decision {
            HumanDecision::Approve => ApprovalState::Approved,
            HumanDecision::Reject => ApprovalState::Rejected,
            HumanDecision::Retry => ApprovalState::Cancelled,
        };
        Self {
            state,
            decided_by: Some(cx.actor.clone()),
            decided_at: Some(cx.now),
            edited: answer.edited.clone(),
            note: answer.note.clone(),
            ..self.clone()
        }
    }

    /// The same question after its deadline passed: still open and escalated, with a new deadline. Never approved.
    #[must_use]
    pub fn escalated(&self, now: Timestamp) -> Self {
        Self { escalations: self.escalations + 1, deadline: now.plus(Self::DEADLINE), ..self.clone() }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalKind {
    /// May this effect be sent? Approve: it is sent. Reject: the task is rejected.
    Effect,
    /// Is this outcome good enough? Approve: the task is approved. Reject: it is rejected.
    Verdict,
    /// The planner lacks something. The answer is in `edited`.
    Question,
    /// A grant is missing. Approve after granting: the task runs again. Reject: it is rejected.
    Denied,
    /// A replayed run asked for something else. Approve: it starts afresh, with the ledger. Reject: it is rejected.
    Divergence,
    /// Nobody knows whether an effect happened. Approve: it did *not* happen, send it. Reject: it is not sent again, the
    /// task is rejected. With an answer in `edited`: it did happen and this is what the tool answered.
    UnknownEffect,
    /// A skill broke the rules; its version is suspended. Approve: lift the suspension and run again. Reject: it stays.
    Security,
    /// A new version wants more than the one before it.
    Consent,
    /// A task failed for good and nothing else can do it. Approve: try it once more. Reject: give it up.
    Stuck,
}

/// Open or decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    /// Waits for a human.
    Open,
    /// A human said yes.
    Approved,
    /// A human said no, or the policy rejects on expiry.
    Rejected,
    /// Nobody needs the answer any more.
    Cancelled,
}

/// What a human said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Yes, no, or again.
    pub decision: HumanDecision,
    /// Changed arguments, or the answer to a question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Value>,
    /// A note for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Yes, no, or again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HumanDecision {
    /// Yes.
    Approve,
    /// No.
    Reject,
    /// Neither: run the task again from the start (only where a task waits).
    Retry,
}

/// What happens to an approval whose deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// It is marked as escalated and stays open with a new deadline.
    #[default]
    Escalate,
    /// It is rejected.
    Reject,
}
