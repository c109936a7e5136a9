//! The contract `chimera:skill@0.1.0`: its calls are made as calls of the newest version, its types converted.
//!
//! Nothing is decided here: what a guest asks for goes to the newest version's host function, through the one gate and
//! into the journal under the same name and request. Called by [`super`].

use super::v0_2 as newest;
use crate::calls::call_skill;
use crate::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker};

/// As it stands behind `@` in a component's imports and exports.
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

pub(crate) use judge::JudgePre;
pub(crate) use judge::exports::chimera::skill::evaluator;
pub(crate) use skill::SkillPre;
pub(crate) use skill::chimera::skill::{mcp, memory, progress, scratch, secrets, trends, types};

/// What a host function tells the guest.
pub(crate) type Told<T> = Result<T, types::Failure>;

/// What a judge gets.
pub(super) fn link_judge(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    progress::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// What a skill gets besides.
pub(super) fn link_skill(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    mcp::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    memory::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    scratch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    trends::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    secrets::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.instance(&super::Contract::V0_1.name("skills"))?.func_wrap_async(
        "call",
        |store: StoreContextMut<'_, State>, (name, input): (String, String)| {
            Box::new(async move {
                let told = call_skill(store, name, input, None).await?;
                Ok((told.map(|answer| types::Outcome::from(answer.outcome)).map_err(types::Failure::from),))
            })
        },
    )
}

fn told<T, U: From<T>>(told: super::Told<T>) -> Told<U> {
    told.map(U::from).map_err(types::Failure::from)
}

fn told_all<T, U: From<T>>(told: super::Told<Vec<T>>) -> Told<Vec<U>> {
    told.map(|all| all.into_iter().map(U::from).collect()).map_err(types::Failure::from)
}

impl types::Host for State {}

impl mcp::Host for State {
    async fn list_tools(&mut self, slot: String) -> wasmtime::Result<Told<Vec<mcp::Tool>>> {
        newest::mcp::Host::list_tools(self, slot).await.map(told_all)
    }

    async fn call_tool(&mut self, call: mcp::Call) -> wasmtime::Result<Told<mcp::Answer>> {
        newest::mcp::Host::call_tool(self, call.into()).await.map(told)
    }

    async fn call_tools(&mut self, calls: Vec<mcp::Call>) -> wasmtime::Result<Vec<Told<mcp::Answer>>> {
        let calls = calls.into_iter().map(newest::mcp::Call::from).collect();
        let answers = newest::mcp::Host::call_tools(self, calls).await?;
        Ok(answers.into_iter().map(told).collect())
    }

    async fn read_resource(&mut self, slot: String, uri: String) -> wasmtime::Result<Told<String>> {
        newest::mcp::Host::read_resource(self, slot, uri).await.map(told)
    }
}

impl memory::Host for State {
    async fn remember(&mut self, text: String, metadata: String) -> wasmtime::Result<Told<String>> {
        newest::memory::Host::remember(self, text, metadata).await.map(told)
    }

    async fn recall(&mut self, query: String, limit: u32) -> wasmtime::Result<Told<Vec<memory::Item>>> {
        newest::memory::Host::recall(self, query, limit).await.map(told_all)
    }
}

impl scratch::Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Told<Option<String>>> {
        newest::scratch::Host::get(self, key).await.map(told)
    }

    async fn put(&mut self, key: String, value: String) -> wasmtime::Result<Told<()>> {
        newest::scratch::Host::put(self, key, value).await.map(told)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Told<()>> {
        newest::scratch::Host::delete(self, key).await.map(told)
    }
}

impl trends::Host for State {
    async fn observe(&mut self, item: trends::Observation) -> wasmtime::Result<Told<()>> {
        newest::trends::Host::observe(self, item.into()).await.map(told)
    }

    async fn top(&mut self, window_seconds: u64, limit: u32) -> wasmtime::Result<Told<Vec<trends::Trend>>> {
        newest::trends::Host::top(self, window_seconds, limit).await.map(told_all)
    }
}

impl secrets::Host for State {
    async fn exists(&mut self, name: String) -> wasmtime::Result<bool> {
        newest::secrets::Host::exists(self, name).await
    }
}

impl progress::Host for State {
    fn report(&mut self, fraction: f64, message: String) -> wasmtime::Result<()> {
        newest::progress::Host::report(self, fraction, message)
    }

    fn log(&mut self, at: progress::Level, message: String) -> wasmtime::Result<()> {
        let at = match at {
            progress::Level::Debug => newest::progress::Level::Debug,
            progress::Level::Info => newest::progress::Level::Info,
            progress::Level::Warn => newest::progress::Level::Warn,
            progress::Level::Error => newest::progress::Level::Error,
        };
        newest::progress::Host::log(self, at, message)
    }
}

// To the guest. What this version has no field for is left out.

impl From<newest::types::Task> for types::Task {
    fn from(task: newest::types::Task) -> Self {
        let newest::types::Task { id, campaign, input, time_left_ms, limits: _ } = task;
        Self { id, campaign, input, time_left_ms }
    }
}

impl From<newest::types::Outcome> for types::Outcome {
    fn from(outcome: newest::types::Outcome) -> Self {
        let newest::types::Outcome { output, confidence, evidence } = outcome;
        Self { output, confidence, evidence }
    }
}

impl From<newest::types::Failure> for types::Failure {
    fn from(failure: newest::types::Failure) -> Self {
        let newest::types::Failure { kind, code, message, retry_after_ms, details: _ } = failure;
        let kind = match kind {
            newest::types::FailureKind::InvalidInput => types::FailureKind::InvalidInput,
            newest::types::FailureKind::Transient => types::FailureKind::Transient,
            newest::types::FailureKind::Permanent => types::FailureKind::Permanent,
            newest::types::FailureKind::Denied => types::FailureKind::Denied,
        };
        Self { kind, code, message, retry_after_ms }
    }
}

impl From<newest::mcp::Tool> for mcp::Tool {
    fn from(tool: newest::mcp::Tool) -> Self {
        let newest::mcp::Tool { name, description, input_schema } = tool;
        Self { name, description, input_schema }
    }
}

impl From<newest::mcp::Answer> for mcp::Answer {
    fn from(answer: newest::mcp::Answer) -> Self {
        let newest::mcp::Answer { text, structured, is_error } = answer;
        Self { text, structured, is_error }
    }
}

impl From<newest::memory::Item> for memory::Item {
    fn from(item: newest::memory::Item) -> Self {
        let newest::memory::Item { id, text, metadata, score } = item;
        Self { id, text, metadata, score }
    }
}

impl From<newest::trends::Trend> for trends::Trend {
    fn from(trend: newest::trends::Trend) -> Self {
        let newest::trends::Trend { topic, weight, count } = trend;
        Self { topic, weight, count }
    }
}

impl From<newest::evaluator::JudgedCase> for evaluator::JudgedCase {
    fn from(case: newest::evaluator::JudgedCase) -> Self {
        let newest::evaluator::JudgedCase { goal, skill, input, output, confidence, evidence } = case;
        Self { goal, skill, input, output, confidence, evidence }
    }
}

// From the guest.

impl From<types::Outcome> for newest::types::Outcome {
    fn from(outcome: types::Outcome) -> Self {
        let types::Outcome { output, confidence, evidence } = outcome;
        Self { output, confidence, evidence }
    }
}

impl From<types::Failure> for newest::types::Failure {
    fn from(failure: types::Failure) -> Self {
        let types::Failure { kind, code, message, retry_after_ms } = failure;
        let kind = match kind {
            types::FailureKind::InvalidInput => newest::types::FailureKind::InvalidInput,
            types::FailureKind::Transient => newest::types::FailureKind::Transient,
            types::FailureKind::Permanent => newest::types::FailureKind::Permanent,
            types::FailureKind::Denied => newest::types::FailureKind::Denied,
        };
        Self { kind, code, message, retry_after_ms, details: None }
    }
}

impl From<mcp::Call> for newest::mcp::Call {
    fn from(call: mcp::Call) -> Self {
        let mcp::Call { slot, tool, arguments } = call;
        Self { slot, tool, arguments }
    }
}

impl From<trends::Observation> for newest::trends::Observation {
    fn from(item: trends::Observation) -> Self {
        let trends::Observation { topic, weight, source } = item;
        Self { topic, weight, source }
    }
}

impl From<evaluator::Verdict> for newest::evaluator::Verdict {
    fn from(verdict: evaluator::Verdict) -> Self {
        let evaluator::Verdict { decision, confidence, reason } = verdict;
        let decision = match decision {
            evaluator::Decision::Approve => newest::evaluator::Decision::Approve,
            evaluator::Decision::Retry => newest::evaluator::Decision::Retry,
            evaluator::Decision::Replan => newest::evaluator::Decision::Replan,
            evaluator::Decision::Escalate => newest::evaluator::Decision::Escalate,
            evaluator::Decision::Reject => newest::evaluator::Decision::Reject,
        };
        Self { decision, confidence, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Both ways, as text: the bindings' types compare in no other way.
    fn there_and_back<Old: Clone + std::fmt::Debug + From<New>, New: From<Old>>(old: &Old) -> (String, String) {
        (format!("{old:?}"), format!("{:?}", Old::from(New::from(old.clone()))))
    }

    fn kinds() -> impl Strategy<Value = types::FailureKind> {
        prop_oneof![
            Just(types::FailureKind::InvalidInput),
            Just(types::FailureKind::Transient),
            Just(types::FailureKind::Permanent),
            Just(types::FailureKind::Denied),
        ]
    }

    proptest! {
        #[test]
        fn a_failure_survives_the_newest_types(
            kind in kinds(), code in ".*", message in ".*", retry_after_ms in any::<Option<u64>>()
        ) {
            let failure = types::Failure { kind, code, message, retry_after_ms };
            let (before, after) = there_and_back::<_, newest::types::Failure>(&failure);
            prop_assert_eq!(before, after);
        }

        #[test]
        fn an_outcome_survives_the_newest_types(
            output in ".*", confidence in any::<f64>(), evidence in proptest::collection::vec(".*", 0..4)
        ) {
            let outcome = types::Outcome { output, confidence, evidence };
            let (before, after) = there_and_back::<_, newest::types::Outcome>(&outcome);
            prop_assert_eq!(before, after);
        }

        #[test]
        fn a_task_loses_only_its_limits(
            id in ".*", campaign in any::<Option<String>>(), input in ".*", time_left_ms in any::<u64>()
        ) {
            let limits =
                newest::types::Limits { time_ms: 1, fuel: 2, memory_mb: 3, output_kb: 4, mcp_calls: 5 };
            let (told, kept) = ((id.clone(), campaign.clone(), input.clone()), time_left_ms);
            let task = types::Task::from(newest::types::Task { id, campaign, input, time_left_ms, limits });
            prop_assert_eq!(((task.id, task.campaign, task.input), task.time_left_ms), (told, kept));
        }
    }

    #[test]
    fn a_failure_from_the_host_loses_only_its_details() {
        for kind in [
            newest::types::FailureKind::InvalidInput,
            newest::types::FailureKind::Transient,
            newest::types::FailureKind::Permanent,
            newest::types::FailureKind::Denied,
        ] {
            let failure = newest::types::Failure {
                kind,
                code: "c".to_owned(),
                message: "m".to_owned(),
                retry_after_ms: Some(1),
                details: Some("{}".to_owned()),
            };
            let back = newest::types::Failure::from(types::Failure::from(failure.clone()));
            assert_eq!(format!("{back:?}"), format!("{:?}", newest::types::Failure { details: None, ..failure }));
        }
    }
}
