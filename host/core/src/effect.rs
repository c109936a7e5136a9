//! The effect ledger: every external effect happens at most once.
//!
//! A row is written as [`EffectState::Intent`] under a current lease before anything is sent, and gets its outcome
//! afterwards, also from an attempt that has become stale meanwhile. The key is (lineage, ordinal, tool, argument hash); the lineage survives retry and
//! replan. [`match_call`] is the whole rule of replay. This module sends nothing. Called by the MCP gateway.

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{ApprovalId, CampaignId, EffectId, LineageId, TaskId};
use crate::ports::ToolAnswer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What names an effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EffectKey {
    /// Survives retry and replan.
    pub lineage: LineageId,
    /// Which MCP call of the run it is, from 0, assigned before dispatch.
    pub ordinal: u32,
    /// `server/tool`.
    pub tool: String,
    /// Hash of the arguments as the guest gave them.
    pub arguments_hash: Digest,
}

impl EffectKey {
    /// The idempotency key that is sent to servers that take one: a digest of the whole key.
    pub fn idempotency_key(&self) -> String {
        Digest::of_json(&json!([self.lineage, self.ordinal, self.tool, self.arguments_hash])).hex()
    }
}

/// One external effect (a row of `effects`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its id.
    pub id: EffectId,
    /// What names it.
    #[serde(flatten)]
    pub key: EffectKey,
    /// The campaign it is for.
    pub campaign: Option<CampaignId>,
    /// The task that wanted it.
    pub task: TaskId,
    /// The attempt that wrote the intent.
    pub attempt: u32,
    /// The journal's epoch of that attempt: a later one is a fresh start, which does not remember the answer.
    #[serde(default)]
    pub epoch: u32,
    /// The arguments that are or were sent (a human may have edited them).
    pub arguments: Value,
    /// Where it is.
    pub state: EffectState,
    /// Whether the server got the effect's key with the first send, as the configuration was then.
    #[serde(default)]
    pub sent_key: SentKey,
    /// What the tool answered.
    pub answer: Option<ToolAnswer>,
    /// The human's approval, if one was needed.
    pub approval: Option<ApprovalId>,
    /// When the row was written.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where an effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectState {
    /// Waits for a human; nothing was sent.
    Gated,
    /// About to be sent, or sent without a known outcome.
    Intent,
    /// Sent, and the tool answered.
    Done,
    /// Certainly not done: it was never sent, or the server said so before doing anything.
    NotDone,
    /// A human said that it is not to be sent (again).
    Refused,
}

/// Whether a server that was sent an effect would know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SentKey {
    /// It was sent without a key, or not at all yet.
    #[default]
    NotSent,
    /// It was sent with its idempotency key, so sending it again does nothing twice.
    Sent,
}

/// What the ledger says to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Matched<'e> {
    /// Never seen: gate it, write the intent, send it.
    New,
    /// The same call was here before; its row says how far it came.
    Same(&'e Effect),
    /// Something else was done or begun at this place, or an earlier effect of the lineage was not asked for again:
    /// only a human can say what to do.
    Diverged(&'e Effect),
}

/// Compares a call with the lineage's earlier effects.
///
/// `consumed` are the effects that this run has asked for again so far. The rule: the same key again is the same
/// effect. A new key is allowed only when every earlier effect that happened or may have happened was asked for again
/// by this run; otherwise a run that took another turn could do the same thing twice under another key.
pub fn match_call<'e>(earlier: &'e [Effect], consumed: &BTreeSet<EffectId>, key: &EffectKey) -> Matched<'e> {
    if let Some(same) = earlier.iter().find(|effect| effect.key == *key) {
        return Matched::Same(same);
    }
    let may_have_happened =
        |effect: &&Effect| matches!(effect.state, EffectState::Done | EffectState::Intent | EffectState::Refused);
    match earlier.iter().filter(may_have_happened).find(|effect| !consumed.contains(&effect.id)) {
        Some(unclaimed) => Matched::Diverged(unclaimed),
        None => Matched::New,
    }
}
