//! The contract's interfaces in their newest version, as a guest calls them: gate, budget, sizes, then the port.
//!
//! Every function here is the same walk; what differs is the wish, the limits that the WIT states and the port. None of
//! them reaches a port except through [`Host::answer`](crate::state::Host). Called by guests.

use crate::admission::WITHIN_CALLER;
use crate::answer::{Answered, Reach, json_size};
use crate::codes as own;
use crate::contract::{
    Told, answer_to_guest, level, mcp, memory, outcome_to_guest, progress, scratch, secrets, skills, trends, types,
};
use crate::gate::Wish;
use crate::state::{Host, State};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::json::{Extent, MAX_KEPT_VALUES, MAX_VALUES, parse};
use chimera_core::manifest::{MemoryOp, TrendsOp};
use chimera_core::ports::{AskedBudget, Budget, Called, HostError, MemoryHit, ToolAnswer, ToolCall, ToolInfo};
use chimera_core::records::{TrendItem, TrendTop};
use chimera_core::skill::SkillName;
use chimera_core::task::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wasmtime::StoreContextMut;

/// Most calls of one `call-tools`.
const MAX_BATCH: usize = 16;
/// Largest text that is remembered and largest scratch value, in bytes.
const MAX_KEPT: usize = 64 << 10;
/// Longest scratch key, topic, source and id, in bytes.
const MAX_NAME: usize = 256;
/// Most items that memory recalls.
const MAX_RECALLED: u32 = 50;
/// Most topics that trends list.
const MAX_TRENDS: u32 = 100;

/// Tells the guest a failure that the sandbox finds by itself. It is not journalled: it comes from nothing but the call,
/// so a replayed run finds it again.
macro_rules! told {
    ($host:ident, $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(failure) => return Ok(Err($host.said.tell(failure))),
        }
    };
}

fn refused(code: &str, message: String) -> Failure {
    Failure::new(FailureKind::InvalidInput, code, message)
}

fn check_size(what: &str, size: usize, max: usize) -> Result<(), Failure> {
    if size > max {
        return Err(refused(own::PAYLOAD_SIZE, format!("{what} is {size} bytes; at most {max} are taken")));
    }
    Ok(())
}

/// How much JSON is taken in one go.
#[derive(Clone, Copy)]
struct Most {
    bytes: usize,
    values: usize,
}

impl Most {
    const KEPT: Self = Self { bytes: MAX_KEPT, values: MAX_KEPT_VALUES };

    const fn payload(bytes: usize) -> Self {
        Self { bytes, values: MAX_VALUES }
    }
}

fn parse_json(what: &str, text: &str, most: Most) -> Result<Value, Failure> {
    check_size(what, text.len(), most.bytes)?;
    parse(text, most.values).map_err(|problem| refused(own::ARGUMENT_INVALID, format!("{what} {problem}")))
}

fn parse_object(what: &str, text: &str, most: Most) -> Result<Value, Failure> {
    let value = parse_json(what, text, most)?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(refused(own::ARGUMENT_INVALID, format!("{what} must be a JSON object")))
    }
}

impl mcp::Host for State {
    async fn list_tools(&mut self, slot: String) -> wasmtime::Result<Told<Vec<mcp::Tool>>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::ListTools { slot: &slot })?;
        told!(host, host.spend_mcp_call());
        let (port, deadline) = (host.ports.mcp.clone(), host.deadline);
        let request = json!({ "slot": slot });
        let listed: Told<Vec<ToolInfo>> = host
            .answer(pass, Reach::Acts, "mcp.list-tools", &request, |_| {
                let slot = slot.clone();
                async move { port.list_tools(&slot, deadline).await }
            })
            .await?;
        let is_declared = |tool: &ToolInfo| host.gate.check(Wish::CallTool { slot: &slot, tool: &tool.name }).is_ok();
        Ok(listed.map(|tools| tools.into_iter().filter(is_declared).map(tool_to_guest).collect()))
    }

    async fn call_tool(&mut self, call: mcp::Call) -> wasmtime::Result<Told<mcp::Answer>> {
        let mut answers = self.host.call_tools(vec![call]).await?;
        Ok(answers
            .pop()
            .unwrap_or_else(|| Err(self.host.said.tell(refused(own::ARGUMENT_INVALID, "no call".to_owned())))))
    }

    async fn call_tools(&mut self, calls: Vec<mcp::Call>) -> wasmtime::Result<Vec<Told<mcp::Answer>>> {
        if calls.len() > MAX_BATCH {
            let message = format!("{} calls at once; at most {MAX_BATCH} are taken", calls.len());
            let failure = self.host.said.tell(refused(own::ARGUMENT_INVALID, message));
            return Ok(calls.iter().map(|_| Err(failure.clone())).collect());
        }
        self.host.call_tools(calls).await
    }

    async fn read_resource(&mut self, slot: String, uri: String) -> wasmtime::Result<Told<String>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::ReadResource { slot: &slot, uri: &uri })?;
        told!(host, host.spend_mcp_call());
        let (port, deadline) = (host.ports.mcp.clone(), host.deadline);
        let request = json!({ "slot": slot, "uri": uri });
        host.answer(pass, Reach::Acts, "mcp.read-resource", &request, |_| async move {
            port.read_resource(&slot, &uri, deadline).await
        })
        .await
    }
}

fn tool_to_guest(tool: ToolInfo) -> mcp::Tool {
    mcp::Tool { name: tool.name, description: tool.description, input_schema: tool.input_schema.to_string() }
}

/// One call of a batch.
enum Place {
    /// Answered already: by the journal, or refused.
    Known(Told<mcp::Answer>),
    /// Dispatched; its answer is the next of those dispatched.
    Dispatched,
}

impl Host {
    /// Calls tools at once. Numbers are given in the order of the list, before anything is dispatched; when one of them
    /// ends the run, the others are waited for and recorded first.
    async fn call_tools(&mut self, calls: Vec<mcp::Call>) -> wasmtime::Result<Vec<Told<mcp::Answer>>> {
        let mut passes = Vec::with_capacity(calls.len());
        for call in &calls {
            passes.push(self.pass(Wish::CallTool { slot: &call.slot, tool: &call.tool })?);
        }
        let room = self.recorder.room();
        let mut places = Vec::with_capacity(calls.len());
        let mut dispatched = Vec::new();
        // All of a batch is in memory at once, so its calls share what one may have.
        let mut values_left = MAX_VALUES;
        for (call, pass) in calls.into_iter().zip(passes) {
            let most = Most { values: values_left, ..Most::payload(self.payload_bytes) };
            values_left = values_left.saturating_sub(Extent::of(&call.arguments).values);
            let arguments = self.spend_mcp_call().and_then(|()| parse_object("the arguments", &call.arguments, most));
            let arguments = match arguments {
                Ok(arguments) => arguments,
                Err(failure) => {
                    places.push(Place::Known(Err(self.said.tell(failure))));
                    continue;
                }
            };
            let call = ToolCall { ordinal: self.next_tool_call, slot: call.slot, tool: call.tool, arguments };
            self.next_tool_call += 1;
            let request = json!({ "slot": call.slot, "tool": call.tool, "arguments": call.arguments });
            match self.ask(&pass, room, "mcp.call-tool", &request)? {
                (_, Some(answer)) => {
                    self.ports.mcp.replayed(&call).await;
                    let told: Told<ToolAnswer> = self.replay(answer)?;
                    places.push(Place::Known(told.map(answer_to_guest)));
                }
                (asked, None) => {
                    places.push(Place::Dispatched);
                    dispatched.push((asked, call));
                }
            }
        }
        let mut answers = self.dispatch(dispatched).await?.into_iter();
        let in_order = places.into_iter().map(|place| match place {
            Place::Known(told) => Some(told),
            Place::Dispatched => answers.next(),
        });
        Ok(in_order.flatten().collect())
    }

    async fn dispatch(
        &mut self,
        calls: Vec<(crate::answer::Asked, ToolCall)>,
    ) -> wasmtime::Result<Vec<Told<mcp::Answer>>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.flush().await?;
        let (asked, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let port = self.ports.mcp.clone();
        let deadline = self.deadline;
        let results = futures::future::join_all(calls.into_iter().map(|call| port.call_tool(call, deadline))).await;
        let (mut told, mut entries, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (asked, result) in asked.into_iter().zip(results) {
            match self.settle(asked, result) {
                Answered::Told(answer, entry) => {
                    told.push(answer.map(answer_to_guest).map_err(|failure| self.said.tell(failure)));
                    entries.push(entry);
                }
                Answered::Ends(end) => ends.push(end),
            }
        }
        self.keep(entries).await?;
        match Self::worst(ends) {
            Some(end) => Err(self.end(end)),
            None => Ok(told),
        }
    }
}

impl memory::Host for State {
    async fn remember(&mut self, text: String, metadata: String) -> wasmtime::Result<Told<String>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Memory(MemoryOp::Remember))?;
        told!(host, host.spend_call());
        told!(host, check_size("the text", text.len(), MAX_KEPT));
        let metadata = told!(host, parse_object("the metadata", &metadata, Most::KEPT));
        let request = json!({ "text": text, "metadata": metadata });
        let port = host.ports.memory.clone();
        host.answer(pass, Reach::Acts, "memory.remember", &request, |ordinal| async move {
            port.remember(ordinal, &text, metadata).await
        })
        .await
    }

    async fn recall(&mut self, query: String, limit: u32) -> wasmtime::Result<Told<Vec<memory::Item>>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Memory(MemoryOp::Recall))?;
        told!(host, host.spend_call());
        told!(host, check_size("the query", query.len(), MAX_KEPT));
        let limit = limit.min(MAX_RECALLED);
        let request = json!({ "query": query, "limit": limit });
        let port = host.ports.memory.clone();
        let hits: Told<Vec<MemoryHit>> = host
            .answer(pass, Reach::Reads, "memory.recall", &request, |_| async move { port.recall(&query, limit).await })
            .await?;
        Ok(hits.map(|hits| hits.into_iter().map(item_to_guest).collect()))
    }

    async fn forget(&mut self, id: String) -> wasmtime::Result<Told<()>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Memory(MemoryOp::Forget))?;
        told!(host, host.spend_call());
        told!(host, check_size("the id", id.len(), MAX_NAME));
        let request = json!({ "id": id });
        let port = host.ports.memory.clone();
        host.answer(pass, Reach::Acts, "memory.forget", &request, |_| async move { port.forget(&id).await }).await
    }
}

fn item_to_guest(hit: MemoryHit) -> memory::Item {
    memory::Item {
        id: hit.item.id.to_string(),
        text: hit.item.text,
        metadata: hit.item.metadata.to_string(),
        score: hit.score,
    }
}

impl scratch::Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Told<Option<String>>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Scratch)?;
        told!(host, host.spend_call());
        told!(host, check_size("the key", key.len(), MAX_NAME));
        let request = json!({ "key": key });
        let port = host.ports.scratch.clone();
        // A kept `null` and nothing at all are different answers, and JSON's `null` must not confuse them.
        let kept: Told<Vec<Value>> = host
            .answer(pass, Reach::Reads, "scratch.get", &request, |_| async move {
                port.get(&key).await.map(|value| value.into_iter().collect())
            })
            .await?;
        Ok(kept.map(|kept| kept.first().map(Value::to_string)))
    }

    async fn put(&mut self, key: String, value: String) -> wasmtime::Result<Told<()>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Scratch)?;
        told!(host, host.spend_call());
        told!(host, check_size("the key", key.len(), MAX_NAME));
        let value = told!(host, parse_json("the value", &value, Most::KEPT));
        let request = json!({ "key": key, "value": value });
        let port = host.ports.scratch.clone();
        host.answer(pass, Reach::Acts, "scratch.put", &request, |_| async move { port.put(&key, value).await }).await
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Told<()>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Scratch)?;
        told!(host, host.spend_call());
        told!(host, check_size("the key", key.len(), MAX_NAME));
        let request = json!({ "key": key });
        let port = host.ports.scratch.clone();
        host.answer(pass, Reach::Acts, "scratch.delete", &request, |_| async move { port.delete(&key).await }).await
    }
}

impl trends::Host for State {
    async fn observe(&mut self, item: trends::Observation) -> wasmtime::Result<Told<()>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Trends(TrendsOp::Observe))?;
        told!(host, host.spend_call());
        told!(host, check_size("the topic", item.topic.len(), MAX_NAME));
        told!(host, check_size("the source", item.source.len(), MAX_NAME));
        if !TrendItem::is_weight(item.weight) {
            told!(host, Err(refused(own::ARGUMENT_INVALID, "the weight must be 0 to 1e9".to_owned())));
        }
        let request = json!({ "topic": item.topic, "weight": item.weight, "source": item.source });
        let port = host.ports.trends.clone();
        host.answer(pass, Reach::Acts, "trends.observe", &request, |ordinal| async move {
            port.observe(ordinal, &item.topic, item.weight, &item.source).await
        })
        .await
    }

    async fn top(&mut self, window_seconds: u64, limit: u32) -> wasmtime::Result<Told<Vec<trends::Trend>>> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Trends(TrendsOp::Top))?;
        told!(host, host.spend_call());
        let limit = limit.min(MAX_TRENDS);
        let request = json!({ "window-seconds": window_seconds, "limit": limit });
        let port = host.ports.trends.clone();
        let top: Told<Vec<TrendTop>> = host
            .answer(pass, Reach::Reads, "trends.top", &request, |_| async move {
                port.top(Duration::from_secs(window_seconds), limit).await
            })
            .await?;
        Ok(top.map(|top| top.into_iter().map(trend_to_guest).collect()))
    }
}

fn trend_to_guest(top: TrendTop) -> trends::Trend {
    trends::Trend { topic: top.topic, weight: top.weight, count: top.count }
}

impl secrets::Host for State {
    async fn exists(&mut self, name: String) -> wasmtime::Result<bool> {
        let host = &mut self.host;
        let pass = host.pass(Wish::Secret(&name))?;
        // The contract gives this function no way to fail, so what would be told as a failure is told as "no".
        if host.spend_call().is_err() {
            return Ok(false);
        }
        let request = json!({ "name": name });
        let port = host.ports.secrets.clone();
        let exists: Told<bool> = host
            .answer(pass, Reach::Reads, "secrets.exists", &request, |_| async move { Ok(port.exists(&name).await) })
            .await?;
        Ok(exists.unwrap_or(false))
    }
}

impl progress::Host for State {
    fn report(&mut self, fraction: f64, message: String) -> wasmtime::Result<()> {
        self.host.host_calls = self.host.host_calls.saturating_add(1);
        self.host.logs.report(fraction, &message);
        Ok(())
    }

    fn log(&mut self, at: progress::Level, message: String) -> wasmtime::Result<()> {
        self.host.host_calls = self.host.host_calls.saturating_add(1);
        self.host.logs.log(level(at), &message);
        Ok(())
    }
}

impl types::Host for State {}

/// What another skill returned and what it took, as the journal has it: a failure costs its caller as much as an
/// outcome, in a replayed run too.
#[derive(Serialize, Deserialize)]
struct Callee {
    returned: Result<Outcome, Failure>,
    fuel: u64,
    /// Journals of before there was anybody to tell have none.
    #[serde(default)]
    time_ms: u64,
    /// The calls of skills that were made below it; most callees make none.
    #[serde(default, skip_serializing_if = "is_none")]
    calls: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_none(calls: &u32) -> bool {
    *calls == 0
}

impl Callee {
    /// What of a callee's outcome is not its output and evidence, in bytes and amply.
    const FRAME: usize = 256;

    /// What the caller is told and charged.
    ///
    /// # Errors
    /// What ends the caller's run.
    fn of(called: Called, max: usize) -> Result<Self, HostError> {
        let Called { result, fuel, wall_ms: time_ms, calls } = called;
        let returned = match result {
            Ok(outcome) => {
                let size = json_size(&outcome) + Self::FRAME;
                if size > max {
                    let message = format!("the callee's outcome is {size} bytes; at most {max} are passed to a skill");
                    Err(Failure::new(FailureKind::Permanent, own::ANSWER_SIZE, message))
                } else {
                    Ok(outcome)
                }
            }
            Err(HostError::Failure(failure)) if failure.kind != FailureKind::Security => Err(failure),
            Err(ends) => return Err(ends),
        };
        Ok(Self { returned, fuel, time_ms, calls })
    }
}

/// `skills.call`. It needs the store and not only its state, because what the callee used comes out of the caller's fuel.
pub(crate) async fn call_skill(
    mut store: StoreContextMut<'_, State>,
    name: String,
    input: String,
    given: Option<skills::Budget>,
) -> wasmtime::Result<Told<skills::Answer>> {
    let left = store.get_fuel()?;
    let host = &mut store.data_mut().host;
    let pass = host.pass(Wish::Skill(&name))?;
    told!(host, host.spend_call());
    let input = told!(host, parse_json("the input", &input, Most::payload(host.payload_bytes)));
    let callee: SkillName = told!(host, name.parse().map_err(|e| refused(own::ARGUMENT_INVALID, format!("{e}"))));
    let mut request = json!({ "name": name, "input": input });
    // A call without a budget is the same call in every version of the contract, and in their journals.
    if let Some(skills::Budget { time_ms, fuel }) =
        given.filter(|given| given.time_ms.is_some() || given.fuel.is_some())
    {
        request["budget"] = json!({ "time-ms": time_ms, "fuel": fuel });
    }
    let calls_left = host.spend_skill_call()?;
    let budget = budget_of(given, host.deadline, left, calls_left);
    let (port, max) = (host.ports.skills.clone(), host.payload_bytes);
    let called: Told<Callee> = host
        .answer(pass, Reach::Acts, "skills.call", &request, |ordinal| {
            WITHIN_CALLER.scope((), async move { Callee::of(port.call(ordinal, &callee, input, budget).await, max) })
        })
        .await?;
    let Callee { returned, fuel, time_ms, calls } = match called {
        Ok(callee) => callee,
        Err(failure) => return Ok(Err(failure)),
    };
    store.data_mut().host.skill_calls_left = calls_left.saturating_sub(calls);
    store.set_fuel(left.saturating_sub(fuel))?;
    let answer = |outcome| skills::Answer { outcome: outcome_to_guest(outcome), time_ms, fuel };
    Ok(returned.map(answer).map_err(|failure| store.data_mut().host.said.tell(failure)))
}

/// What a callee may use: what its caller gives it, and never more than the caller has.
fn budget_of(given: Option<skills::Budget>, deadline: Instant, fuel: u64, calls: u32) -> Budget {
    let asked =
        given.map_or_else(AskedBudget::default, |given| AskedBudget { time_ms: given.time_ms, fuel: given.fuel });
    let until = asked.time_ms.and_then(|millis| Instant::now().checked_add(Duration::from_millis(millis)));
    Budget {
        deadline: until.map_or(deadline, |until| until.min(deadline)),
        fuel: asked.fuel.map_or(fuel, |given| given.min(fuel)),
        calls,
        asked,
    }
}
