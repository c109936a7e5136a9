//! The contract `chimera:skill@0.1.0`, as Rust.
//!
//! Bindings made from the WIT and the conversions between its records and core's nouns; no decision is taken here.
//! Called by the calls that guests make and by the runs that call guests.

use crate::run::JudgeOpinion;
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ports::{LogLevel, ToolAnswer};
use chimera_core::task::Outcome;
use chimera_core::text::printable;
use chimera_core::verdict::Decision;
use serde_json::Value;

/// The version of the contract that is served, as it stands behind `@` in a component's imports and exports.
pub(crate) const VERSION: &str = "0.1.0";

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from documented WIT")]
pub(crate) mod skill {
    wasmtime::component::bindgen!({
        path: "../../wit/chimera-skill-0.1.0",
        world: "chimera:skill/skill",
        imports: {
            "chimera:skill/progress": trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from documented WIT")]
pub(crate) mod judge {
    wasmtime::component::bindgen!({
        path: "../../wit/chimera-skill-0.1.0",
        world: "chimera:skill/judge",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "chimera:skill/types": super::skill::chimera::skill::types,
            "chimera:skill/progress": super::skill::chimera::skill::progress,
        },
    });
}

pub(crate) use judge::exports::chimera::skill::evaluator;
pub(crate) use skill::chimera::skill::{mcp, memory, progress, scratch, secrets, trends, types};

/// What a host function tells the guest.
pub(crate) type Told<T> = Result<T, types::Failure>;

/// A failure as the guest is told it. Kinds that a guest cannot be told never get here; they end the run.
pub(crate) fn failure_to_guest(failure: Failure) -> types::Failure {
    let kind = match failure.kind {
        FailureKind::InvalidInput => types::FailureKind::InvalidInput,
        FailureKind::Transient => types::FailureKind::Transient,
        FailureKind::Denied => types::FailureKind::Denied,
        FailureKind::Permanent | FailureKind::Security | FailureKind::Poison => types::FailureKind::Permanent,
    };
    types::Failure { kind, code: failure.code, message: failure.message, retry_after_ms: failure.retry_after_ms }
}

/// A failure as the guest returned it: hostile text, cut and made printable.
pub(crate) fn failure_from_guest(failure: &types::Failure) -> Failure {
    let kind = match failure.kind {
        types::FailureKind::InvalidInput => FailureKind::InvalidInput,
        types::FailureKind::Transient => FailureKind::Transient,
        types::FailureKind::Permanent => FailureKind::Permanent,
        types::FailureKind::Denied => FailureKind::Denied,
    };
    let mut told = Failure::new(kind, printable(&failure.code), printable(&failure.message));
    told.retry_after_ms = failure.retry_after_ms;
    told
}

pub(crate) fn outcome_to_guest(outcome: Outcome) -> types::Outcome {
    types::Outcome { output: outcome.output.to_string(), confidence: outcome.confidence, evidence: outcome.evidence }
}

pub(crate) fn answer_to_guest(answer: ToolAnswer) -> mcp::Answer {
    mcp::Answer {
        text: answer.text,
        structured: answer.structured.map(|value: Value| value.to_string()),
        is_error: answer.is_error,
    }
}

pub(crate) fn level(level: progress::Level) -> LogLevel {
    match level {
        progress::Level::Debug => LogLevel::Debug,
        progress::Level::Info => LogLevel::Info,
        progress::Level::Warn => LogLevel::Warn,
        progress::Level::Error => LogLevel::Error,
    }
}

pub(crate) fn opinion(verdict: evaluator::Verdict) -> JudgeOpinion {
    let decision = match verdict.decision {
        evaluator::Decision::Approve => Decision::Approve,
        evaluator::Decision::Retry => Decision::Retry,
        evaluator::Decision::Replan => Decision::Replan,
        evaluator::Decision::Escalate => Decision::Escalate,
        evaluator::Decision::Reject => Decision::Reject,
    };
    let reason = chimera_core::text::truncated(printable(&verdict.reason), Failure::MAX_MESSAGE);
    JudgeOpinion { decision, confidence: verdict.confidence, reason }
}
