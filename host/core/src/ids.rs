//! The ids of every noun, and where new ones come from.
//!
//! An id is a newtype over a UUIDv7 (RFC 9562 §5.7), so a task's id can never be passed for a lease's, and rows
//! sort by creation time. This module never draws an id by itself: an [`IdSource`] is handed in from outside, so
//! tests are reproducible. Called from everywhere.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Mutex;
use uuid::Uuid;

/// A text that should have been an id was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {noun} id: expected a UUID such as 0190f3c2-7b1e-7c3a-9f00-0123456789ab")]
pub struct ParseIdError {
    noun: &'static str,
    text: String,
}

struct IdText<T>(PhantomData<T>);

impl<T: FromStr<Err = ParseIdError>> Visitor<'_> for IdText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id, which is a UUID")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Draws a new id from `ids`.
            pub fn new(ids: &dyn IdSource) -> Self {
                Self(ids.next_uuid())
            }

            /// Wraps a UUID that was stored or received before.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| ParseIdError { noun: $noun, text: text.chars().take(64).collect() })
            }
        }

        // By hand, so that what is no id is told in the same words wherever it was written.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdText(PhantomData))
            }
        }
    };
}

id!(
    /// A campaign: one goal of one owner.
    CampaignId, "a campaign"
);
id!(
    /// One step of a plan. A replanned step is a new step with the old one's [`LineageId`].
    StepId, "a step"
);
id!(
    /// What a step stands for across retries *and* replans: the effect ledger is keyed by it.
    LineageId, "a lineage"
);
id!(
    /// A task: one step being done.
    TaskId, "a task"
);
id!(
    /// What a task has to do (`spec_id`): skill, version, input, limits.
    SpecId, "a spec"
);
id!(
    /// The right of one worker to one attempt of one task.
    LeaseId, "a lease"
);
id!(
    /// A question to a human.
    ApprovalId, "an approval"
);
id!(
    /// An operator's permission for a skill to use a slot.
    GrantId, "a grant"
);
id!(
    /// A planner, worker, judge or operator that acts.
    AgentId, "an agent"
);
id!(
    /// An API token (never the token itself).
    TokenId, "a token"
);
id!(
    /// One row of the outbox.
    OutboxId, "an outbox"
);
id!(
    /// One external effect in the ledger.
    EffectId, "an effect"
);

/// Where new ids come from.
pub trait IdSource: Send + Sync {
    /// A UUID that this source has not given before, later in order than those it gave.
    fn next_uuid(&self) -> Uuid;
}

/// Ids from the wall clock and the operating system's random numbers (UUIDv7, monotonic within a process).
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn next_uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Ids 1, 2, 3 … in UUID form: for tests that compare whole values.
#[derive(Debug, Default)]
pub struct SequentialIds(Mutex<u64>);

impl IdSource for SequentialIds {
    fn next_uuid(&self) -> Uuid {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last += 1;
        Uuid::from_u64_pair(0x0000_0000_0000_7000, 0x8000_0000_0000_0000 | *last)
    }
}
