//! Failures as values: the kind decides what happens next, the code and the message only explain.
//!
//! This module never looks at a message to decide anything. Called wherever a skill, a tool or the host can fail.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The input cannot be worked on: the planner changes the specification.
    InvalidInput,
    /// It may work later: retried with exponential backoff and full jitter, capped.
    Transient,
    /// It will not work with this skill: the planner reassigns or replans, capped.
    Permanent,
    /// A grant is missing or a human refused: a question to the operator.
    Denied,
    /// Host only. The skill reached beyond its manifest, forged or tampered: a human decides, the version is suspended.
    Security,
    /// Host only. Workers kept dying on it: dead letter.
    Poison,
}

impl FailureKind {
    /// The kind's name on the wire and in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid-input",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Denied => "denied",
            Self::Security => "security",
            Self::Poison => "poison",
        }
    }
}

/// Which limit of a run was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitName {
    /// Instructions of the guest (`limits.fuel`), in units of fuel.
    Fuel,
    /// From the start of the run to its end, waiting included (`limits.time_ms`), in milliseconds.
    Time,
    /// Linear memory over all memories of a component (`limits.memory_mb`), in bytes.
    Memory,
    /// Table elements over all tables of a component.
    Tables,
    /// Core instances, or memories, or tables of a component.
    Instances,
    /// The guest's stack, in bytes.
    Stack,
    /// Resources and handles that the guest holds at once.
    Handles,
    /// Random bytes, in one call or in a run.
    Random,
    /// What is written to stdout or stderr at once, in bytes.
    Stdout,
    /// What the guest returns (`limits.output_kb`) or hands over in one call, in bytes.
    Output,
    /// What is handed to the guest, in bytes.
    Input,
    /// Clock readings and waits.
    Readings,
    /// Host answers that are recorded of one run, in bytes.
    Journal,
    /// Calls of other skills in one task, those that callees make included.
    SkillCalls,
}

impl LimitName {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Tables => "tables",
            Self::Instances => "instances",
            Self::Stack => "stack",
            Self::Handles => "handles",
            Self::Random => "random",
            Self::Stdout => "stdout",
            Self::Output => "output",
            Self::Input => "input",
            Self::Readings => "readings",
            Self::Journal => "journal",
            Self::SkillCalls => "skill-calls",
        }
    }
}

/// A limit that a run reached: which, what it allows, and what was used or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReached {
    /// Which; its documentation says the unit.
    pub name: LimitName,
    /// What it allows.
    pub max: u64,
    /// What was used up to it, with what was asked for last. At least `max`, except for time that somebody else's
    /// deadline cut short.
    pub used: u64,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message} [{code}]", kind.as_str())]
pub struct Failure {
    /// Decides what happens next.
    pub kind: FailureKind,
    /// Stable kebab-case code, at most 64 bytes.
    pub code: String,
    /// One sentence for a human, at most 2 KiB.
    pub message: String,
    /// For [`FailureKind::Transient`]: not before this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The limit that ended the run, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReached>,
    /// What a program may read of it; at most [`Failure::MAX_DETAILS`] bytes of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Value>>,
}

impl Failure {
    /// Longest code in bytes.
    pub const MAX_CODE: usize = 64;
    /// Longest message in bytes.
    pub const MAX_MESSAGE: usize = 2048;
    /// Longest details in bytes of JSON.
    pub const MAX_DETAILS: usize = 4096;

    /// A failure; code and message are cut to their limits.
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: crate::text::truncated(code.into(), Self::MAX_CODE),
            message: crate::text::truncated(message.into(), Self::MAX_MESSAGE),
            retry_after_ms: None,
            limit: None,
            details: None,
        }
    }

    /// The same failure, caused by a limit.
    #[must_use]
    pub fn limit(mut self, name: LimitName, max: u64, used: u64) -> Self {
        self.limit = Some(LimitReached { name, max, used });
        self
    }

    /// The same failure with a time before which a retry makes no sense.
    #[must_use]
    pub fn retry_after(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }
}

/// Codes that the host itself gives, in one place. A skill's own failure never has one of them.
pub mod codes {
    macro_rules! codes {
        ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = $code;)*
            /// All of them.
            pub const ALL: &[&str] = &[$($name),*];
        };
    }

    codes! {
        /// The deadline passed: guest CPU, parked host calls and compile time together.
        DEADLINE = "deadline-exceeded";
        /// The fuel ran out.
        FUEL = "fuel-exhausted";
        /// More memory was asked for than the limit allows.
        MEMORY = "memory-limit";
        /// The output was larger than the limit.
        OUTPUT_SIZE = "output-too-large";
        /// The output was not JSON, or not what the schema says.
        OUTPUT_INVALID = "output-invalid";
        /// The confidence was NaN or outside 0..=1.
        CONFIDENCE_INVALID = "confidence-invalid";
        /// The input did not fit the skill's schema.
        INPUT_INVALID = "input-invalid";
        /// The guest trapped (unreachable, out of bounds, stack overflow, …).
        TRAP = "trap";
        /// More calls were made than the manifest allows.
        CALL_LIMIT = "call-limit";
        /// No grant covers the call.
        NOT_GRANTED = "not-granted";
        /// The manifest does not declare what was called.
        NOT_DECLARED = "not-declared";
        /// A human refused.
        REFUSED = "refused-by-human";
        /// The replayed run asked for something else than the first one did.
        DIVERGED = "journal-diverged";
        /// Nobody knows whether the effect happened.
        EFFECT_UNKNOWN = "effect-unknown";
        /// Workers kept dying on the task.
        POISON = "poisoned";
        /// The lease ran out before a report came.
        LEASE_EXPIRED = "lease-expired";
        /// The component could not be compiled within limits.
        COMPILE = "compile-failed";
        /// The component cannot be linked with the served contract.
        LINK = "link-failed";
        /// A server could not be reached.
        UNREACHABLE = "server-unreachable";
        /// A limit other than those with a code of their own was reached; `limit` says which.
        LIMIT = "limit-reached";
        /// Something inside the host failed.
        HOST = "host-error";
        /// The lease went to another attempt, or ran out, while the run was going on: nothing more is recorded or sent.
        LEASE_LOST = "lease-lost";
        /// Every place for a running skill is taken.
        BUSY = "sandbox-busy";
        /// What the skill handed to a host function cannot be used.
        ARGUMENT_INVALID = "argument-invalid";
        /// What the skill handed to a host function, or its input, is larger than the host takes.
        PAYLOAD_SIZE = "payload-too-large";
        /// What a port answered is larger than the host passes on.
        ANSWER_SIZE = "answer-too-large";
        /// A put that the agent's scratch has no room for.
        SCRATCH_FULL = "scratch-full";
        /// No version that may be called meets what the caller's manifest wants.
        SKILL_MISSING = "skill-missing";
        /// The version of the task is not installed here.
        NOT_INSTALLED = "skill-not-installed";
        /// The version is suspended.
        SUSPENDED = "skill-suspended";
        /// The version waits for an operator's consent.
        AWAITING_CONSENT = "skill-awaiting-consent";
        /// The tool is not what it was when it was granted, or is gone.
        TOOL_CHANGED = "tool-changed";
        /// An effect was asked for by a run that is no task's.
        EFFECT_OUTSIDE_TASK = "effect-outside-task";
        /// A server did not answer in time.
        SERVER_TIMEOUT = "server-timeout";
        /// A server's answer is no answer, or larger than the limit.
        ANSWER_UNUSABLE = "answer-unusable";
        /// A server refused a call.
        SERVER_REFUSED = "server-refused";
        /// The arguments are not what the tool's schema says.
        ARGUMENTS_INVALID = "arguments-invalid";
        /// A human decided a question while it was asked again.
        DECIDED_MEANWHILE = "decided-meanwhile";
        /// The judge was not content with any attempt.
        INSUFFICIENT = "judged-insufficient";
        /// A goal or its steps make no plan.
        UNPLANNABLE = "unplannable";
        /// Planning took too long.
        PLAN_TIMEOUT = "plan-timeout";
    }
}
