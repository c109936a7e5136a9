//! The journal: every host answer that a guest saw, so that a later run can be told the same.
//!
//! Entries are numbered by host call. A run that asks for something else at a number than the journal says has
//! diverged, and only a human may decide what then. This module holds the values; the sandbox records and replays.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

/// Most entries of one task and epoch.
pub const MAX_ENTRIES: u32 = 20_000;
/// How long the journal of a task is kept after the task has ended.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a journal of an epoch that is over is kept: nothing replays it any more.
pub const OLD_EPOCH_KEPT: Duration = Duration::from_secs(3600);

/// One host answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Which host call of the run it is, from 0, assigned before dispatch.
    pub ordinal: u32,
    /// `interface.function`, such as `mcp.call-tool` or `wasi.wall-clock`.
    pub call: Cow<'static, str>,
    /// Hash of the arguments.
    pub request: Digest,
    /// What the guest was told: `{"ok": …}` or `{"err": <failure>}`.
    pub answer: Value,
}

/// A run asked for something else than the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("host call {ordinal} was `{recorded}` in the first run and is `{asked}` now")]
pub struct Divergence {
    /// The host call's number.
    pub ordinal: u32,
    /// What the journal has.
    pub recorded: String,
    /// What the run asked for.
    pub asked: String,
}
