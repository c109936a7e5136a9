//! The versions of the contract `chimera:skill` that are served, as Rust: one file a version.
//!
//! The newest version's types are what the host works with. An older version's file converts its own to and from them and
//! makes its calls as calls of the newest, so every version passes the same gate, budgets and journal. Here are also the
//! conversions between the newest types and core's nouns; no decision is taken here. Called by the calls that guests make
//! and by the runs that call guests.

pub(crate) mod v0_1;
pub(crate) mod v0_2;

use crate::run::JudgeOpinion;
use crate::state::State;
use chimera_core::contract::PACKAGE;
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::json::{MAX_KEPT_VALUES, parse};
use chimera_core::manifest::Limits;
use chimera_core::ports::{LogLevel, ToolAnswer};
use chimera_core::task::Outcome;
use chimera_core::text::printable;
use chimera_core::verdict::Decision;
use serde_json::Value;
use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

pub(crate) use v0_2::{evaluator, mcp, memory, progress, scratch, secrets, skills, trends, types};

/// A version of the contract that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    V0_1,
    V0_2,
}

impl Contract {
    const ALL: [Self; 2] = [Self::V0_1, Self::V0_2];

    /// The version as it stands behind `@`; none if it is not served.
    pub(crate) fn of(version: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| contract.version() == version)
    }

    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::VERSION,
            Self::V0_2 => v0_2::VERSION,
        }
    }

    /// The full name of one of its interfaces.
    pub(crate) fn name(self, interface: &str) -> String {
        format!("{PACKAGE}/{interface}@{}", self.version())
    }
}

/// Links what a judge gets, of every version: a component finds the interfaces that it names.
pub(crate) fn link_judge(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    v0_1::link_judge(linker)?;
    v0_2::link_judge(linker)
}

/// Links what a skill gets besides, of every version.
pub(crate) fn link_skill(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    v0_1::link_skill(linker)?;
    v0_2::link_skill(linker)
}

/// A linked skill of any version.
pub(crate) enum Skill {
    V0_1(v0_1::SkillPre<State>),
    V0_2(v0_2::SkillPre<State>),
}

impl Skill {
    pub(crate) fn new(contract: Contract, instance: InstancePre<State>) -> wasmtime::Result<Self> {
        match contract {
            Contract::V0_1 => v0_1::SkillPre::new(instance).map(Self::V0_1),
            Contract::V0_2 => v0_2::SkillPre::new(instance).map(Self::V0_2),
        }
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<State> {
        match self {
            Self::V0_1(pre) => pre.instance_pre(),
            Self::V0_2(pre) => pre.instance_pre(),
        }
    }

    /// Calls `run` in a new instance.
    pub(crate) async fn run(
        &self,
        store: &mut Store<State>,
        task: types::Task,
    ) -> wasmtime::Result<Told<types::Outcome>> {
        match self {
            Self::V0_1(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                let returned = guest.chimera_skill_runner().call_run(store, &task.into()).await?;
                Ok(returned.map(Into::into).map_err(Into::into))
            }
            Self::V0_2(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                guest.chimera_skill_runner().call_run(store, &task).await
            }
        }
    }
}

/// A linked judge of any version.
pub(crate) enum Judge {
    V0_1(v0_1::JudgePre<State>),
    V0_2(v0_2::JudgePre<State>),
}

impl Judge {
    pub(crate) fn new(contract: Contract, instance: InstancePre<State>) -> wasmtime::Result<Self> {
        match contract {
            Contract::V0_1 => v0_1::JudgePre::new(instance).map(Self::V0_1),
            Contract::V0_2 => v0_2::JudgePre::new(instance).map(Self::V0_2),
        }
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<State> {
        match self {
            Self::V0_1(pre) => pre.instance_pre(),
            Self::V0_2(pre) => pre.instance_pre(),
        }
    }

    /// Calls `evaluate` in a new instance.
    pub(crate) async fn evaluate(
        &self,
        store: &mut Store<State>,
        case: evaluator::JudgedCase,
    ) -> wasmtime::Result<Told<evaluator::Verdict>> {
        match self {
            Self::V0_1(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                let returned = guest.chimera_skill_evaluator().call_evaluate(store, &case.into()).await?;
                Ok(returned.map(Into::into).map_err(Into::into))
            }
            Self::V0_2(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                guest.chimera_skill_evaluator().call_evaluate(store, &case).await
            }
        }
    }
}

/// What a host function tells the guest.
pub(crate) type Told<T> = Result<T, types::Failure>;

/// A failure as the guest is told it; only [`crate::said`] tells it. Kinds that a guest cannot be told never get here;
/// they end the run.
pub(crate) fn failure_to_guest(failure: Failure) -> types::Failure {
    let kind = match failure.kind {
        FailureKind::InvalidInput => types::FailureKind::InvalidInput,
        FailureKind::Transient => types::FailureKind::Transient,
        FailureKind::Denied => types::FailureKind::Denied,
        FailureKind::Permanent | FailureKind::Security | FailureKind::Poison => types::FailureKind::Permanent,
    };
    types::Failure {
        kind,
        code: failure.code,
        message: failure.message,
        retry_after_ms: failure.retry_after_ms,
        details: failure.details.map(|details| details.to_string()),
    }
}

/// A failure as the guest returned it: hostile text, cut and made printable. Whether its code is the guest's to give
/// [`crate::said`] knows.
pub(crate) fn failure_from_guest(failure: &types::Failure) -> Failure {
    let kind = match failure.kind {
        types::FailureKind::InvalidInput => FailureKind::InvalidInput,
        types::FailureKind::Transient => FailureKind::Transient,
        types::FailureKind::Permanent => FailureKind::Permanent,
        types::FailureKind::Denied => FailureKind::Denied,
    };
    let mut told = Failure::new(kind, printable(&failure.code), printable(&failure.message));
    told.retry_after_ms = failure.retry_after_ms;
    let details = failure.details.as_deref().filter(|details| details.len() <= Failure::MAX_DETAILS);
    told.details = details.and_then(|details| parse(details, MAX_KEPT_VALUES).ok()).map(Box::new);
    told
}

pub(crate) fn outcome_to_guest(outcome: Outcome) -> types::Outcome {
    types::Outcome { output: outcome.output.to_string(), confidence: outcome.confidence, evidence: outcome.evidence }
}

/// Limits as the guest is told them: those that count, never more than the largest there are.
pub(crate) fn limits_to_guest(limits: &Limits) -> types::Limits {
    let max = Limits::MAX;
    types::Limits {
        time_ms: limits.time_ms.min(max.time_ms),
        fuel: limits.fuel.min(max.fuel),
        memory_mb: limits.memory_mb.min(max.memory_mb),
        output_kb: limits.output_kb.min(max.output_kb),
        mcp_calls: limits.mcp_calls,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_core::contract::SERVED;

    #[test]
    fn what_is_linked_is_what_is_said_to_be_served() {
        assert_eq!(Contract::ALL.map(Contract::version).as_slice(), SERVED.map(|version| version.to_string()));
        assert_eq!(Contract::of("0.2.0"), Some(Contract::V0_2));
        assert_eq!(Contract::of("0.3.0"), None);
        assert_eq!(Contract::V0_1.name("runner"), "chimera:skill/runner@0.1.0");
    }

    #[test]
    fn details_that_are_no_small_json_are_left_out() {
        let details = |details: Option<String>| {
            let kind = types::FailureKind::Permanent;
            let (code, message) = ("c".to_owned(), "m".to_owned());
            let failure = types::Failure { kind, code, message, retry_after_ms: None, details };
            failure_to_guest(failure_from_guest(&failure)).details
        };
        let fits = format!("\"{}\"", "x".repeat(Failure::MAX_DETAILS - 2));
        for kept in [r#"{"field":"url"}"#, "[1]", "null", &fits] {
            assert_eq!(details(Some(kept.to_owned())).as_deref(), Some(kept));
        }
        let long = format!("\"{}\"", "x".repeat(Failure::MAX_DETAILS - 1));
        for dropped in ["", "{", "1 2", &long, &"[".repeat(2000)] {
            assert_eq!(details(Some(dropped.to_owned())), None, "{dropped}");
        }
        assert_eq!(details(None), None);
    }
}
