//! One call of a guest, from a fresh store to a report.
//!
//! Whatever happens (a trap, a limit, a panic of the host, a question to a human), the caller gets a report with what was
//! used and what was logged. It judges no schema and writes no state of a task. Called by the executor, the judge, the
//! registry and the CLI.

use crate::admission::{self, until};
use crate::codes as own;
use crate::contract::{evaluator, limits_to_guest, opinion, types};
use crate::engine::MAX_WASM_STACK;
use crate::gate::Gate;
use crate::limiter::Limiter;
use crate::logs::{LogLine, LogSink};
use crate::prepared::{Exports, Prepared};
use crate::recorder::{NoStart, Recorder, Start, Unwritten};
use crate::said::Said;
use crate::sandbox::Sandbox;
use crate::state::{Host, State, journal_failure};
use crate::wasi::{self, GuestClock, Random, Reading};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, LimitName, LimitReached, codes};
use chimera_core::ids::ApprovalId;
use chimera_core::journal::{Divergence, JournalEntry};
use chimera_core::json::MAX_VALUES;
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::ports::HostPorts;
use chimera_core::task::{Outcome, Usage};
use chimera_core::text::{printable, truncated};
use chimera_core::verdict::Decision;
use futures::FutureExt as _;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{ResourceTable, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// Most reasons that a skill gives, and the longest, in bytes.
const MAX_EVIDENCE: (usize, usize) = (32, 1 << 10);
/// Resources (streams, timers) of one guest.
const MAX_RESOURCES: usize = 1024;
/// Handles of one guest, those between its own parts included.
const MAX_HANDLES: usize = 10_000;

/// One run of a skill.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The task's id, as the guest is told it.
    pub task_id: String,
    /// The campaign's id, as the guest is told it.
    pub campaign: Option<String>,
    /// The input; already validated against the skill's schema.
    pub input: Value,
    /// At most the manifest's limits; never more than [`Limits::MAX`] counts.
    pub limits: Limits,
    /// What the skill may reach at most.
    pub manifest: Arc<Manifest>,
    /// The run ends then, or when `limits.time_ms` are over, whichever comes first.
    pub deadline: Instant,
    /// Calls of skills that it and its callees may make; [`Budget::MAX_CALLS`] for a task's own skill.
    ///
    /// [`Budget::MAX_CALLS`]: chimera_core::ports::Budget::MAX_CALLS
    pub skill_calls: u32,
}

/// How a run ended and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// What it used, also when it failed.
    pub usage: Usage,
    /// The calls of skills that it and its callees made.
    pub skill_calls: u32,
    /// What it logged and printed; at most 1,000 lines and 256 KiB.
    pub logs: Vec<LogLine>,
    /// Lines that were over the limit.
    pub dropped_log_lines: u64,
    /// What the journal does not have of it yet.
    pub unwritten: Unwritten,
}

/// What a run is told again.
#[derive(Debug, Clone)]
pub struct Tape {
    /// The component that was run when it was recorded; the one that is run now may be another.
    pub skill: Digest,
    /// The limits that it was told it had.
    pub limits: Limits,
    /// What it was answered.
    pub entries: Vec<JournalEntry>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// The skill returned an outcome: JSON within the output limit, a confidence within 0 to 1.
    Finished(Outcome),
    /// The skill returned a failure, broke a limit, or could not be run.
    Failed(Failure),
    /// A human must decide first; a run with the same journal continues here.
    Suspended(ApprovalId),
    /// The run asked for something else than the journal says.
    Diverged(Divergence),
}

/// A finished task, as a judge is shown it.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedCase {
    /// What the task was meant to do.
    pub goal: String,
    /// `namespace/name` of the skill that ran.
    pub skill: String,
    /// Its input.
    pub input: Value,
    /// Its output.
    pub output: Value,
    /// Its confidence.
    pub confidence: f64,
    /// Its reasons.
    pub evidence: Vec<String>,
}

/// What a judge thinks of a finished task.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeOpinion {
    /// What shall happen.
    pub decision: Decision,
    /// How sure the judge is, 0 to 1.
    pub confidence: f64,
    /// One sentence; at most 2 KiB, printable.
    pub reason: String,
}

/// What is called.
enum Export {
    /// The time that is left is filled in when the guest starts.
    Run(types::Task),
    Describe,
    Evaluate(evaluator::JudgedCase),
}

/// What it returned.
enum Returned {
    Outcome(types::Outcome),
    Description(String),
    Verdict(evaluator::Verdict),
    Failure(Failure),
}

/// One call of any export, whatever it is.
struct Call<'a> {
    skill: &'a Prepared,
    export: Export,
    gate: Gate,
    limits: Limits,
    deadline: Instant,
    skill_calls: u32,
    ports: HostPorts,
    /// When it was asked for.
    started: Instant,
    past: Past,
}

/// Where what earlier runs were answered comes from.
enum Past {
    /// From the journal; what it does not have is answered and recorded.
    Journal,
    /// From a tape, and there is nothing else.
    Tape(Tape),
}

/// The error that ends a guest at its deadline while it computes.
#[derive(Debug, thiserror::Error)]
#[error("the deadline passed")]
struct DeadlinePassed;

impl Sandbox {
    /// Runs a skill once. Dropping the future drops the guest and everything it waits for.
    ///
    /// Input and output are held against sizes, not against schemas. Of the ports, `journal` is asked first: a run with
    /// entries in its journal is told the same again up to the last of them.
    pub async fn run(&self, skill: &Prepared, request: RunRequest, ports: HostPorts) -> RunReport {
        self.run_after(skill, request, ports, Past::Journal).await
    }

    /// Runs a skill as it was recorded, without any port, journal, clock or waiting: whatever the tape has no answer to ends
    /// the run as [`RunEnd::Diverged`], with [`Divergence::NOTHING`] for what was recorded. Nobody watching is told.
    ///
    /// All limits hold but the one of time: there is until `request.deadline`.
    pub async fn replay(&self, skill: &Prepared, request: RunRequest, tape: Tape) -> RunReport {
        self.run_after(skill, request, HostPorts::deny_all(), Past::Tape(tape)).await
    }

    async fn run_after(&self, skill: &Prepared, request: RunRequest, ports: HostPorts, past: Past) -> RunReport {
        let input = request.input.to_string();
        let max = self.config().payload_bytes;
        if input.len() > max {
            let message = format!("the input is {} bytes; at most {max} are passed to a skill", input.len());
            let failure = Failure::new(FailureKind::InvalidInput, own::PAYLOAD_SIZE, message);
            return RunReport::failed(failure.limit(LimitName::Input, max as u64, input.len() as u64));
        }
        if !matches!(skill.exports, Exports::Skill(_)) {
            return RunReport::failed(Failure::new(
                FailureKind::Permanent,
                codes::LINK,
                "the component is a judge and cannot be run as a skill",
            ));
        }
        let told = match &past {
            Past::Journal => &request.limits,
            Past::Tape(tape) => &tape.limits,
        };
        let call = Call {
            skill,
            export: Export::Run(types::Task {
                id: request.task_id,
                campaign: request.campaign,
                input,
                time_left_ms: 0,
                limits: limits_to_guest(told),
            }),
            gate: Gate::Manifest(request.manifest),
            limits: request.limits,
            deadline: request.deadline,
            skill_calls: request.skill_calls,
            ports,
            started: Instant::now(),
            past,
        };
        let output_bytes = call.limits.output_bytes().min(Limits::MAX.output_bytes());
        self.call(call, |returned| match returned {
            Returned::Outcome(outcome) => outcome_from_guest(outcome, output_bytes),
            Returned::Failure(failure) => Err(failure),
            Returned::Description(_) | Returned::Verdict(_) => Err(mixed_up()),
        })
        .await
        .map_end(|end| match end {
            Ok(outcome) => RunEnd::Finished(outcome),
            Err(end) => end,
        })
        .into()
    }

    /// Asks a component what it says of itself; it can reach nothing meanwhile.
    ///
    /// # Errors
    /// `link-failed` when it does not export `describe`; else as a run.
    pub async fn describe(&self, skill: &Prepared) -> Result<Value, Failure> {
        if !skill.can_describe() {
            return Err(Failure::new(FailureKind::Permanent, codes::LINK, "the component does not export `describe`"));
        }
        let limits = Limits { fuel: Limits::MAX.fuel, ..Limits::default() };
        let call = Call {
            skill,
            export: Export::Describe,
            gate: Gate::Closed,
            limits,
            deadline: Instant::now() + limits.time(),
            skill_calls: 0,
            ports: HostPorts::deny_all(),
            started: Instant::now(),
            past: Past::Journal,
        };
        let max = self.config().payload_bytes;
        let described = self.call(call, |returned| match returned {
            Returned::Description(text) => parse_output("the description", &text, max),
            _ => Err(mixed_up()),
        });
        described.await.end.map_err(failure_of)
    }

    /// Asks a judge for its opinion; it can reach nothing meanwhile.
    ///
    /// # Errors
    /// `link-failed` when the component is no judge; the judge's own failure; else as a run.
    pub async fn evaluate(
        &self,
        judge: &Prepared,
        case: JudgedCase,
        limits: Limits,
        deadline: Instant,
    ) -> Result<JudgeOpinion, Failure> {
        if !matches!(judge.exports, Exports::Judge(_)) {
            return Err(Failure::new(FailureKind::Permanent, codes::LINK, "the component is not a judge"));
        }
        let shown = evaluator::JudgedCase {
            goal: case.goal,
            skill: case.skill,
            input: case.input.to_string(),
            output: case.output.to_string(),
            confidence: case.confidence,
            evidence: case.evidence,
        };
        let call = Call {
            skill: judge,
            export: Export::Evaluate(shown),
            gate: Gate::Closed,
            limits,
            deadline,
            skill_calls: 0,
            ports: HostPorts::deny_all(),
            started: Instant::now(),
            past: Past::Journal,
        };
        let judged = self.call(call, |returned| match returned {
            Returned::Verdict(verdict) => {
                check_confidence(verdict.confidence)?;
                Ok(opinion(verdict))
            }
            Returned::Failure(failure) => Err(failure),
            _ => Err(mixed_up()),
        });
        judged.await.end.map_err(failure_of)
    }

    /// Makes one call in a place of its own; a panic of the host ends this call and nothing else.
    async fn call<T>(
        &self,
        call: Call<'_>,
        read: impl FnOnce(Returned) -> Result<T, Failure>,
    ) -> Report<Result<T, RunEnd>> {
        let started = call.started;
        let _using = call.skill.uses.begin();
        let caught = AssertUnwindSafe(self.call_in_place(call)).catch_unwind().await;
        let mut report = caught.unwrap_or_else(|_| {
            let message = "the host failed while it served the skill; its log says more";
            Report::ended(RunEnd::Failed(Failure::new(FailureKind::Transient, codes::HOST, message)))
        });
        report.usage.wall_ms = millis(started.elapsed());
        report.map_end(|end| end.and_then(|returned| read(returned).map_err(RunEnd::Failed)))
    }

    async fn call_in_place(&self, mut call: Call<'_>) -> Report<Result<Returned, RunEnd>> {
        let Ok(_place) = self.0.places.enter(call.skill.weight(), call.deadline).await else {
            return Report::ended(RunEnd::Failed(admission::busy()));
        };
        let loaded = match &mut call.past {
            Past::Tape(tape) => Ok(Recorder::closed(std::mem::take(&mut tape.entries))),
            Past::Journal => {
                call.limits.time_ms = call.limits.time_ms.min(Limits::MAX.time_ms);
                call.deadline = call.deadline.min(call.started + call.limits.time());
                until(call.deadline, Recorder::load(call.ports.journal.clone())).await
            }
        };
        match loaded {
            Ok(Ok(recorder)) => self.call_with(call, recorder).await,
            Ok(Err(error)) => Report::ended(RunEnd::Failed(journal_failure(&error))),
            Err(_) => Report::ended(RunEnd::Failed(deadline_exceeded(call.started, call.deadline))),
        }
    }

    async fn call_with(&self, call: Call<'_>, mut recorder: Recorder) -> Report<Result<Returned, RunEnd>> {
        let start = match start(&mut recorder, &call) {
            Ok(start) => start,
            Err(end) => return Report::ended(end),
        };
        let Call { skill, export, gate, limits, deadline, skill_calls, ports, started, past: _ } = call;
        let logs = LogSink::new(ports.progress.clone());
        let config = self.config();
        let host = Host {
            gate,
            recorder,
            clock: Arc::new(GuestClock::new(started)),
            logs: logs.clone(),
            deadline,
            payload_bytes: config.payload_bytes,
            max_mcp_calls: limits.mcp_calls,
            host_calls: 0,
            port_calls: 0,
            mcp_calls: 0,
            skill_calls_left: skill_calls,
            last_reading: Reading { wall: Timestamp::from_millis(start.clock), monotonic: 0 },
            next_tool_call: 0,
            said: Said::default(),
            ended: None,
            ports,
        };
        let mut store = self.store(host, start.seed, &limits);
        let guest = call_guest(&mut store, skill, export, start.time_left_ms);
        let result = match until(deadline, guest).await {
            Ok(Ok(returned)) => Ok(returned),
            Ok(Err(error)) if error.is::<DeadlinePassed>() => Err(RunEnd::Failed(deadline_exceeded(started, deadline))),
            Ok(Err(error)) => Err(end_of(&error, store.data_mut(), &limits, config.payload_bytes)),
            Err(_) => Err(RunEnd::Failed(deadline_exceeded(started, deadline))),
        };
        let left = store.get_fuel().unwrap_or(0);
        let state = store.data_mut();
        let unwritten = state.host.recorder.take_unwritten();
        let usage = Usage {
            wall_ms: 0,
            fuel: fuel(&limits).saturating_sub(left),
            peak_memory_bytes: state.limiter.peak(),
            host_calls: state.host.host_calls,
            mcp_calls: state.host.mcp_calls,
        };
        let skill_calls = skill_calls.saturating_sub(state.host.skill_calls_left);
        drop(store);
        let (logs, dropped_log_lines) = logs.take();
        Report { end: result, usage, skill_calls, logs, dropped_log_lines, unwritten }
    }

    fn store(&self, host: Host, seed: u64, limits: &Limits) -> Store<State> {
        let deadline = host.deadline;
        let handed_over = hostcall_bytes(host.payload_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        host.tell_audience();
        let state = State {
            wasi: wasi::context(&host.logs),
            table,
            limiter: Limiter::new(limits.memory_bytes().min(Limits::MAX.memory_bytes())),
            random: Random::new(seed),
            host,
        };
        let mut store = Store::new(&self.0.engine, state);
        store.limiter(|state| state.limiter.after(state.host.port_calls));
        // Fuel is part of the engine's settings, so setting it cannot fail; without it the guest would not start.
        let _ = store.set_fuel(fuel(limits));
        store.set_hostcall_fuel(handed_over);
        store.set_max_component_handles(MAX_HANDLES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if Instant::now() >= deadline {
                return Err(wasmtime::Error::new(DeadlinePassed));
            }
            // Others get the thread at every tick, so a guest that only computes stalls nobody.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

fn fuel(limits: &Limits) -> u64 {
    limits.fuel.min(Limits::MAX.fuel)
}

/// What a guest may hand over in one call: a batch of sixteen arguments, or an outcome with its evidence.
fn hostcall_bytes(payload: usize) -> usize {
    payload.saturating_mul(17)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The run's seed, first wall clock and remaining time: the journal's, or new ones.
fn start(recorder: &mut Recorder, call: &Call<'_>) -> Result<Start, RunEnd> {
    let skill = match &call.past {
        Past::Journal => call.skill.digest(),
        Past::Tape(tape) => tape.skill,
    };
    let request = match &call.export {
        Export::Run(task) => Digest::of_parts(&[skill.as_bytes(), task.input.as_bytes()]),
        Export::Describe | Export::Evaluate(_) => skill,
    };
    let fresh = || Start {
        seed: call.ports.seed,
        clock: call.ports.clock.now().as_millis(),
        time_left_ms: millis(call.deadline.saturating_duration_since(Instant::now())),
    };
    recorder.start(request, fresh).map_err(|no_start| match no_start {
        NoStart::Diverged(divergence) => RunEnd::Diverged(divergence),
        NoStart::Unreadable(problem) => {
            let message = format!("the journal's start cannot be read: {problem}");
            RunEnd::Failed(Failure::new(FailureKind::Permanent, codes::HOST, message))
        }
    })
}

async fn call_guest(
    store: &mut Store<State>,
    skill: &Prepared,
    export: Export,
    time_left_ms: u64,
) -> wasmtime::Result<Returned> {
    match (export, &skill.exports) {
        (Export::Run(task), Exports::Skill(skill)) => {
            let result = skill.run(store, types::Task { time_left_ms, ..task }).await?;
            Ok(result.map_or_else(|failure| returned_failure(store, &failure), Returned::Outcome))
        }
        (Export::Evaluate(case), Exports::Judge(judge)) => {
            let result = judge.evaluate(store, case).await?;
            Ok(result.map_or_else(|failure| returned_failure(store, &failure), Returned::Verdict))
        }
        (Export::Describe, _) => {
            let describe = skill.describe.ok_or_else(|| wasmtime::Error::msg("`describe` is not exported"))?;
            let instance = skill.instance().instantiate_async(&mut *store).await?;
            let describe = instance.get_typed_func::<(), (String,)>(&mut *store, describe)?;
            Ok(Returned::Description(describe.call_async(store, ()).await?.0))
        }
        _ => Err(wasmtime::Error::msg("the component does not export what is called")),
    }
}

fn returned_failure(store: &Store<State>, failure: &types::Failure) -> Returned {
    Returned::Failure(store.data().host.said.returned(failure))
}

/// Why the guest did not return. What the host noted comes first, then the engine's typed errors; text only explains.
fn end_of(error: &wasmtime::Error, state: &mut State, limits: &Limits, payload: usize) -> RunEnd {
    if let Some(end) = state.host.ended.take() {
        return end;
    }
    if error.is::<PoolConcurrencyLimitError>() || is_out_of_memory(error) {
        return RunEnd::Failed(admission::busy());
    }
    let permanent = |code, message: String| Failure::new(FailureKind::Permanent, code, message);
    RunEnd::Failed(if let Some(exit) = error.downcast_ref::<I32Exit>() {
        permanent(codes::TRAP, format!("the skill exited with status {} instead of returning", exit.0))
    } else if let Some(failure) = limit_of(error, state, limits, payload) {
        failure
    } else {
        permanent(codes::TRAP, told(error))
    })
}

/// Did the system have no room to map the guest's memory? That says nothing about the guest.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    let no_memory = rustix::io::Errno::NOMEM;
    error.downcast_ref::<rustix::io::Errno>() == Some(&no_memory)
        || error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
            == Some(no_memory.raw_os_error())
}

/// The failure of a run that a limit ended; none if it ended in another way.
fn limit_of(error: &wasmtime::Error, state: &State, limits: &Limits, payload: usize) -> Option<Failure> {
    let permanent = |code, message: String| Failure::new(FailureKind::Permanent, code, message);
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::OutOfFuel) {
        let max = fuel(limits);
        let message = format!("the skill used up its {max} units of fuel; raise `limits.fuel` in its manifest");
        return Some(permanent(codes::FUEL, message).limit(LimitName::Fuel, max, max));
    }
    if trap == Some(&Trap::StackOverflow) {
        let (name, max) = (LimitName::Stack, MAX_WASM_STACK as u64);
        return Some(permanent(codes::TRAP, told(error)).limit(name, max, max));
    }
    if let Some(reached) = state.limiter.behind(error, state.host.port_calls) {
        let LimitReached { name, max, used } = reached;
        let (code, message) = match name {
            LimitName::Tables => {
                (codes::LIMIT, format!("the skill wanted {used} table elements; at most {max} are given"))
            }
            _ => (
                codes::MEMORY,
                format!(
                    "the skill wanted {used} bytes of memory; its limit is {max}: raise `limits.memory_mb` in its manifest"
                ),
            ),
        };
        return Some(permanent(code, message).limit(name, max, used));
    }
    if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        let (max, message) = (MAX_RESOURCES as u64, format!("the skill held more than {MAX_RESOURCES} resources"));
        return Some(permanent(codes::LIMIT, message).limit(LimitName::Handles, max, max + 1));
    }
    let told = told(error);
    if told.contains(TOO_MUCH_COPIED) {
        let max = hostcall_bytes(payload) as u64;
        let message = format!("the skill handed over more than {max} bytes at once");
        // The engine stops counting there.
        return Some(permanent(codes::OUTPUT_SIZE, message).limit(LimitName::Output, max, max + 1));
    }
    if told.contains(TOO_MANY_HANDLES) {
        let (max, message) = (MAX_HANDLES as u64, format!("the skill held more than {MAX_HANDLES} handles"));
        return Some(permanent(codes::LIMIT, message).limit(LimitName::Handles, max, max + 1));
    }
    None
}

/// What the engine says, the cause before the frames.
fn told(error: &wasmtime::Error) -> String {
    let said = match (error.downcast_ref::<Trap>(), error.downcast_ref::<WasmBacktrace>()) {
        (Some(trap), Some(frames)) => format!("{trap}\n{frames}"),
        (Some(trap), None) => trap.to_string(),
        (None, _) => error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join(": "),
    };
    printable(&truncated(said, 1500))
}

/// The engine's words where it has no type that can be named: for a guest that hands over or holds too much. Only the failure's code and limit depend on them, and tests hold them against the engine.
const TOO_MUCH_COPIED: &str = "too much data is being copied";
const TOO_MANY_HANDLES: &str = "store handle limit exceeded";

fn outcome_from_guest(outcome: types::Outcome, max_output: usize) -> Result<Outcome, Failure> {
    check_confidence(outcome.confidence)?;
    let output = parse_output("the output", &outcome.output, max_output)?;
    let (most, longest) = MAX_EVIDENCE;
    let evidence =
        outcome.evidence.into_iter().take(most).map(|reason| printable(&truncated(reason, longest))).collect();
    Ok(Outcome { output, confidence: outcome.confidence, evidence })
}

fn check_confidence(confidence: f64) -> Result<(), Failure> {
    if (0.0..=1.0).contains(&confidence) {
        return Ok(());
    }
    let message = format!("the confidence is {confidence}; it must be 0 to 1");
    Err(Failure::new(FailureKind::Permanent, codes::CONFIDENCE_INVALID, message))
}

fn parse_output(what: &str, text: &str, max: usize) -> Result<Value, Failure> {
    if text.len() > max {
        let message = format!("{what} is {} bytes; the limit is {max} (`limits.output_kb`)", text.len());
        let failure = Failure::new(FailureKind::Permanent, codes::OUTPUT_SIZE, message);
        return Err(failure.limit(LimitName::Output, max as u64, text.len() as u64));
    }
    chimera_core::json::parse(text, MAX_VALUES)
        .map_err(|problem| Failure::new(FailureKind::Permanent, codes::OUTPUT_INVALID, format!("{what} {problem}")))
}

fn deadline_exceeded(started: Instant, deadline: Instant) -> Failure {
    let (max, used) = (millis(deadline.saturating_duration_since(started)), millis(started.elapsed()));
    let message = format!("the skill did not end before its deadline: it had {max} ms");
    Failure::new(FailureKind::Permanent, codes::DEADLINE, message).limit(LimitName::Time, max, used)
}

fn mixed_up() -> Failure {
    Failure::new(FailureKind::Permanent, codes::HOST, "the component returned something that was not asked for")
}

fn failure_of(end: RunEnd) -> Failure {
    match end {
        RunEnd::Failed(failure) => failure,
        RunEnd::Finished(_) | RunEnd::Suspended(_) | RunEnd::Diverged(_) => mixed_up(),
    }
}

/// A report about any end.
struct Report<E> {
    end: E,
    usage: Usage,
    skill_calls: u32,
    logs: Vec<LogLine>,
    dropped_log_lines: u64,
    unwritten: Unwritten,
}

impl<T> Report<Result<T, RunEnd>> {
    fn ended(end: RunEnd) -> Self {
        let RunReport { end, usage, skill_calls, logs, dropped_log_lines, unwritten } = RunReport::before_start(end);
        Self { end: Err(end), usage, skill_calls, logs, dropped_log_lines, unwritten }
    }
}

impl<E> Report<E> {
    fn map_end<F>(self, map: impl FnOnce(E) -> F) -> Report<F> {
        let Self { end, usage, skill_calls, logs, dropped_log_lines, unwritten } = self;
        Report { end: map(end), usage, skill_calls, logs, dropped_log_lines, unwritten }
    }
}

impl From<Report<RunEnd>> for RunReport {
    fn from(report: Report<RunEnd>) -> Self {
        let Report { end, usage, skill_calls, logs, dropped_log_lines, unwritten } = report;
        Self { end, usage, skill_calls, logs, dropped_log_lines, unwritten }
    }
}

impl RunReport {
    /// A run that failed before it began.
    pub fn failed(failure: Failure) -> Self {
        Self::before_start(RunEnd::Failed(failure))
    }

    fn before_start(end: RunEnd) -> Self {
        Self {
            end,
            usage: Usage::default(),
            skill_calls: 0,
            logs: Vec::new(),
            dropped_log_lines: 0,
            unwritten: Unwritten::default(),
        }
    }
}
