//! Host answers are recorded before the guest sees them, and a later run is told the same.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_core::failure::{Failure, FailureKind, LimitName, LimitReached, codes};
use chimera_core::journal::Divergence;
use chimera_core::json::{MAX_DEPTH, MAX_VALUES};
use chimera_core::manifest::Limits;
use chimera_core::ports::{Budget, Called, HostPorts, SkillsPort};
use chimera_core::skill::SkillName;
use chimera_core::task::Outcome;
use chimera_sandbox::{RunEnd, RunReport, RunRequest, Sandbox, Tape, codes as own};
use common::{
    CALL_TOOL, MemoryJournal, NAMES, RUN, Reply, SEARCH, Tools, approval, component, failure, manifest_with, output,
    ports, prepare, request, sandbox, searcher, skill,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reads both clocks and a random number, calls a tool, and returns the random number and the times as digits in JSON.
fn curious() -> Vec<u8> {
    let imports = format!(
        r#"{CALL_TOOL}
        (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic (result i64)))
        (import "wasi:clocks/wall-clock@0.2.6" "now" (func $wall (param i32)))
        (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#
    );
    let definitions = format!(
        r#"
        ;; Writes 16 letters a..p for the nibbles of a number.
        (func $letters (param $at i32) (param $number i64)
            (local $n i32)
            (loop $more
                (i32.store8 (i32.add (local.get $at) (local.get $n))
                    (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $number) (i64.const 15)))))
                (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 16)))))
        {RUN}
            (call $wall (i32.const 3072))
            (call $letters (i32.const 4097) (i64.load (i32.const 3072)))
            (call $letters (i32.const 4113) (call $monotonic))
            (call $letters (i32.const 4129) (call $random))
            {SEARCH}
            (call $letters (i32.const 4145) (call $monotonic))
            (if (i32.load8_u (i32.const 1536)) (then (return (i32.const 1536))))
            (call $ok (i32.const 4096) (i32.const 66) (f64.const 1)))
        {NAMES}
        (data (i32.const 4096) "\22")
        (data (i32.const 4161) "\22")"#
    );
    component("guest", &imports, &definitions)
}

#[tokio::test]
async fn a_replayed_run_is_told_the_same_and_sends_nothing() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &curious()).await;
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::watching(vec![Reply::Say("{}")], Some(journal.clone()));
    let first = sandbox.run(&skill, request(json!({"q": 1}), Limits::default()), ports(&tools, &journal)).await;
    let told = output(&first).clone();
    assert_eq!(tools.calls.lock().unwrap()[0].arguments, json!({"q": 1}));
    // The start and both readings were durable before the call was sent.
    assert_eq!(*tools.journal_at_call.lock().unwrap(), vec![3]);
    let calls: Vec<String> = journal.entries().into_iter().map(|entry| entry.call.into_owned()).collect();
    assert_eq!(calls, ["run.start", "wasi.wall-clock", "wasi.monotonic-clock", "mcp.call-tool"]);

    let again = Tools::new(Vec::new());
    let mut ports = ports(&again, &journal);
    ports.seed = 99;
    let second = sandbox.run(&skill, request(json!({"q": 1}), Limits::default()), ports).await;
    // All but the last reading, which was never durable and may differ.
    let until_last = |value: &Value| value.as_str().unwrap()[..48].to_owned();
    assert_eq!(until_last(output(&second)), until_last(&told));
    assert_eq!(again.replayed.lock().unwrap().len(), 1);
    assert_eq!(again.calls.lock().unwrap().len(), 0);
    assert_eq!(second.usage.mcp_calls, 1);
}

#[tokio::test]
async fn another_call_than_the_journal_says_diverges() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::new(vec![Reply::Say("{}")]);
    let _ = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    let recorded = journal.entries();

    let mut other_call = recorded.clone();
    other_call[1].call = "memory.recall".into();
    let mut other_request = recorded.clone();
    other_request[1].request = chimera_core::digest::Digest::of(b"else");
    for (entries, input, ordinal) in
        [(other_call, json!({}), 1), (other_request, json!({}), 1), (recorded, json!({"else": 1}), 0)]
    {
        let silent = Tools::new(Vec::new());
        let ports = ports(&silent, &MemoryJournal::of(entries));
        let report = sandbox.run(&skill, request(input, Limits::default()), ports).await;
        match report.end {
            RunEnd::Diverged(divergence) => assert_eq!(divergence.ordinal, ordinal),
            other => panic!("expected a divergence, found {other:?}"),
        }
        assert!(silent.calls.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_suspended_run_continues_where_it_stopped() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &curious()).await;
    let journal = MemoryJournal::of(Vec::new());
    let asks = Tools::new(vec![Reply::Suspend]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&asks, &journal)).await;
    assert_eq!(report.end, RunEnd::Suspended(approval()));
    assert_eq!(journal.entries().len(), 3, "what the guest saw before is kept, the question is not");

    let answers = Tools::new(vec![Reply::Say("{}")]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&answers, &journal)).await;
    assert!(matches!(report.end, RunEnd::Finished(_)), "{:?}", report.end);
    assert_eq!(answers.calls.lock().unwrap()[0].ordinal, asks.calls.lock().unwrap()[0].ordinal);
    assert_eq!(journal.entries().len(), 4);
}

/// Calls `social/search` three times at once, each with its input, and returns whether it was told three answers.
fn batcher() -> Vec<u8> {
    let imports = r#"(import "chimera:skill/mcp@0.1.0" "call-tools" (func $call_tools (param i32 i32 i32)))"#;
    let call = |at: u32| {
        format!(
            "(i32.store (i32.const {at}) (i32.const 2048)) (i32.store (i32.const {}) (i32.const 6))
            (i32.store (i32.const {}) (i32.const 2054)) (i32.store (i32.const {}) (i32.const 6))
            (i32.store (i32.const {}) (local.get $input)) (i32.store (i32.const {}) (local.get $input_len))",
            at + 4,
            at + 8,
            at + 12,
            at + 16,
            at + 20
        )
    };
    let definitions = format!(
        r#"{RUN} {} {} {}
            (call $call_tools (i32.const 3072) (i32.const 3) (i32.const 1536))
            (if (i32.ne (i32.load (i32.const 1540)) (i32.const 3)) (then unreachable))
            (call $ok (i32.const 2064) (i32.const 4) (f64.const 1)))
        {NAMES} (data (i32.const 2064) "true")"#,
        call(3072),
        call(3096),
        call(3120)
    );
    component("guest", imports, &definitions)
}

#[tokio::test]
async fn in_a_batch_the_others_are_recorded_before_the_run_is_suspended() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &batcher()).await;
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::new(vec![Reply::Say("1"), Reply::Suspend, Reply::Say("3")]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    assert_eq!(report.end, RunEnd::Suspended(approval()));
    let ordinals: Vec<u32> = tools.calls.lock().unwrap().iter().map(|call| call.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2]);
    let recorded: Vec<u32> = journal.entries().iter().map(|entry| entry.ordinal).collect();
    assert_eq!(recorded, [0, 1, 3]);

    let later = Tools::new(vec![Reply::Say("2")]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&later, &journal)).await;
    assert_eq!(output(&report), &json!(true));
    assert_eq!(later.calls.lock().unwrap()[0].ordinal, 1);
    assert_eq!(later.replayed.lock().unwrap().len(), 2);
    assert_eq!(report.usage.mcp_calls, 3);
}

#[tokio::test]
async fn failures_of_a_port_are_told_and_recorded() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let journal = MemoryJournal::of(Vec::new());
    let denied = Failure::new(FailureKind::Denied, codes::NOT_GRANTED, "ask the operator");
    let tools = Tools::new(vec![Reply::Fail(denied.clone())]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    assert_eq!(failure(&report), &denied);
    assert_eq!(journal.entries()[1].answer.value(), json!({"err": denied}));
    let again = ports(&Tools::new(Vec::new()), &journal);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), again).await;
    assert_eq!(failure(&report), &denied, "and replayed");
}

#[tokio::test]
async fn a_security_failure_of_a_port_ends_the_run_at_once() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let forged = Failure::new(FailureKind::Security, "forged", "no");
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::new(vec![Reply::Fail(forged.clone())]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    assert_eq!(failure(&report), &forged);
}

#[tokio::test]
async fn a_lost_lease_ends_the_run() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let journal = MemoryJournal::of(Vec::new());
    journal.closed.store(true, Ordering::SeqCst);
    let tools = Tools::new(vec![Reply::Say("{}")]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    assert_eq!(failure(&report).kind, FailureKind::Transient);
    assert_eq!(failure(&report).code, chimera_sandbox::codes::LEASE_LOST);
    assert!(tools.calls.lock().unwrap().is_empty(), "nothing is sent that cannot be recorded");
}

#[tokio::test]
async fn a_skill_that_only_computes_writes_no_journal() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &common::echo()).await;
    let journal = MemoryJournal::of(Vec::new());
    let ports = ports(&Tools::new(Vec::new()), &journal);
    let report = sandbox.run(&skill, request(json!([1, {"a": null}]), Limits::default()), ports).await;
    assert_eq!(output(&report), &json!([1, {"a": null}]));
    assert_eq!(journal.appends.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn reaching_beyond_the_manifest_is_a_security_failure() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let tools = Tools::new(vec![Reply::Say("{}")]);
    let journal = MemoryJournal::of(Vec::new());
    let other_tool = json!({"mcp": [{"slot": "social", "tools": ["publish"], "reason": "x"}]});
    for capabilities in [json!({}), other_tool] {
        let mut request = request(json!({}), Limits::default());
        request.manifest = manifest_with(capabilities);
        let report = sandbox.run(&skill, request, ports(&tools, &journal)).await;
        assert_eq!(failure(&report).kind, FailureKind::Security);
        assert_eq!(failure(&report).code, codes::NOT_DECLARED);
    }
    assert!(tools.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let tools = Tools::new(Vec::new());
    let ports = ports(&tools, &MemoryJournal::of(Vec::new()));
    let limits = Limits { mcp_calls: 0, ..Limits::default() };
    let report = sandbox.run(&skill, request(json!({}), limits), ports).await;
    assert_eq!((failure(&report).kind, failure(&report).code.as_str()), (FailureKind::Permanent, codes::CALL_LIMIT));
}

#[tokio::test]
async fn arguments_must_be_a_json_object() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let tools = Tools::new(Vec::new());
    let ports = ports(&tools, &MemoryJournal::of(Vec::new()));
    let deep = (0..MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    for wrong in [json!([]), json!({ "a": deep }), json!({ "a": vec![0; MAX_VALUES] })] {
        let report = sandbox.run(&skill, request(wrong, Limits::default()), ports.clone()).await;
        assert_eq!(failure(&report).kind, FailureKind::InvalidInput);
        assert_eq!(failure(&report).code, chimera_sandbox::codes::ARGUMENT_INVALID);
    }
    assert!(tools.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_calls_of_a_batch_share_the_values_that_one_may_have() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &batcher()).await;
    let tools = Tools::new(vec![Reply::Say("1")]);
    let ports = ports(&tools, &MemoryJournal::of(Vec::new()));
    // Each would be taken alone.
    let third = json!({ "a": vec![0; MAX_VALUES / 2 + 10] });
    let report = sandbox.run(&skill, request(third, Limits::default()), ports).await;
    assert_eq!(output(&report), &json!(true));
    assert_eq!(tools.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_port_that_hangs_ends_at_the_deadline_and_one_that_panics_ends_only_its_run() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let limits = Limits { time_ms: 200, ..Limits::default() };
    let hanging = ports(&Tools::new(vec![Reply::Hang]), &MemoryJournal::of(Vec::new()));
    let report = sandbox.run(&skill, request(json!({}), limits), hanging).await;
    assert_eq!(failure(&report).code, codes::DEADLINE);
    assert_eq!(report.usage.mcp_calls, 1);
    let panicking = ports(&Tools::new(vec![Reply::Panic]), &MemoryJournal::of(Vec::new()));
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), panicking).await;
    assert_eq!(failure(&report).code, codes::HOST);
    let fine = ports(&Tools::new(vec![Reply::Say("{}")]), &MemoryJournal::of(Vec::new()));
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), fine).await;
    assert_eq!(output(&report), &json!({}));
}

#[tokio::test]
async fn too_large_an_answer_is_not_passed_on() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher()).await;
    let huge: &'static str = Box::leak("x".repeat(2 << 20).into_boxed_str());
    let journal = MemoryJournal::of(Vec::new());
    let ports = ports(&Tools::new(vec![Reply::Say(huge)]), &journal);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports).await;
    assert_eq!(failure(&report).code, chimera_sandbox::codes::ANSWER_SIZE);
    assert!(journal.entries()[1].answer.as_str().len() < 1000);
}

#[tokio::test]
async fn a_clock_that_is_read_too_often_stands_still() {
    let imports =
        format!(r#"{CALL_TOOL} (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic (result i64)))"#);
    let definitions = format!(
        "{RUN} (local $n i32) (local $before i64)
            (loop $more
                (local.set $before (call $monotonic))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 12000))))
            {SEARCH}
            (if (i64.ne (local.get $before) (call $monotonic)) (then unreachable))
            (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1)))
        {NAMES}"
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &component("guest", &imports, &definitions)).await;
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::new(vec![Reply::Say("1")]);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&tools, &journal)).await;
    assert_eq!(output(&report), &json!(1));
    assert_eq!(journal.entries().len(), 10_002, "the start, the readings, the answer");
    let silent = Tools::new(Vec::new());
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports(&silent, &journal)).await;
    assert_eq!(output(&report), &json!(1), "and so on every run");
}

#[tokio::test]
async fn a_replayed_wait_does_not_wait_again() {
    let imports = format!(
        r#"{CALL_TOOL}
        (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#
    );
    let definitions = format!(
        "{RUN} (call $block (call $subscribe (i64.const 2000000000)))
            {SEARCH}
            (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1)))
        {NAMES}"
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &component("guest", &imports, &definitions)).await;
    let journal = MemoryJournal::of(Vec::new());
    let asks = ports(&Tools::new(vec![Reply::Suspend]), &journal);
    let first = sandbox.run(&skill, request(json!({}), Limits::default()), asks).await;
    assert_eq!(first.end, RunEnd::Suspended(approval()));
    assert!(first.usage.wall_ms >= 2000);
    let answers = ports(&Tools::new(vec![Reply::Say("1")]), &journal);
    let second = sandbox.run(&skill, request(json!({}), Limits::default()), answers).await;
    assert_eq!(output(&second), &json!(1));
    assert!(second.usage.wall_ms < 2000);
}

struct Callee;

#[async_trait::async_trait]
impl SkillsPort for Callee {
    async fn call(&self, ordinal: u32, name: &SkillName, input: Value, budget: Budget) -> Called {
        assert_eq!((ordinal, name.as_str()), (1, "acme/other"));
        assert!(budget.fuel > 900_000);
        let result = match input.get("fail") {
            Some(code) => Err(Failure::new(FailureKind::Permanent, code.as_str().unwrap(), "no").into()),
            None => Ok(Outcome { output: input, confidence: 1.0, evidence: vec!["because".to_owned()] }),
        };
        Called { result, fuel: 1_000_000, wall_ms: 1, calls: 0 }
    }
}

/// Calls `acme/other` with its input and returns what it is told.
fn caller() -> Vec<u8> {
    component(
        "guest",
        r#"(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))"#,
        &format!(
            r#"{RUN} (call $call (i32.const 2048) (i32.const 10) (local.get $input) (local.get $input_len) (i32.const 1536))
            (i32.const 1536)) (data (i32.const 2048) "acme/other")"#
        ),
    )
}

#[tokio::test]
async fn a_callee_that_fails_costs_its_caller_as_much() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &caller()).await;
    let too_large = json!("x".repeat((1 << 20) - 100));
    for (input, code) in [(json!({"fail": "no-luck"}), "no-luck"), (too_large, own::ANSWER_SIZE)] {
        let journal = MemoryJournal::of(Vec::new());
        let calling = HostPorts { skills: Arc::new(Callee), journal: journal.clone(), ..HostPorts::deny_all() };
        let replaying = HostPorts { journal, ..HostPorts::deny_all() };
        for ports in [&calling, &replaying] {
            let report = sandbox.run(&skill, request(input.clone(), Limits::default()), ports.clone()).await;
            let failure = failure(&report);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, code));
            assert!((1_000_000..1_100_000).contains(&report.usage.fuel), "{}", report.usage.fuel);
        }
        let limits = Limits { fuel: 1_000_010, ..Limits::default() };
        let fresh = HostPorts { journal: MemoryJournal::of(Vec::new()), ..calling.clone() };
        let report = sandbox.run(&skill, request(input, limits), fresh).await;
        assert_eq!(failure(&report).code, codes::FUEL, "nothing is left after the callee");
    }
}

/// A callee that makes a hundred calls of its own, and notes how many it was given.
#[derive(Default)]
struct Busy(std::sync::Mutex<Vec<u32>>);

#[async_trait::async_trait]
impl SkillsPort for Busy {
    async fn call(&self, _: u32, _: &SkillName, input: Value, budget: Budget) -> Called {
        self.0.lock().unwrap().push(budget.calls);
        let outcome = Outcome { output: input, confidence: 1.0, evidence: Vec::new() };
        Called { result: Ok(outcome), fuel: 1, wall_ms: 1, calls: 100.min(budget.calls) }
    }
}

#[tokio::test]
async fn what_callees_call_comes_out_of_the_tasks_calls() {
    let wasm = component(
        "guest",
        r#"(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))"#,
        &format!(
            r#"{RUN} (loop $on (call $call (i32.const 2048) (i32.const 10) (local.get $input) (local.get $input_len)
            (i32.const 1536)) (br $on)) unreachable) (data (i32.const 2048) "acme/other")"#
        ),
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &wasm).await;
    let (busy, journal) = (Arc::new(Busy::default()), MemoryJournal::of(Vec::new()));
    let calling = HostPorts { skills: busy.clone(), journal: journal.clone(), ..HostPorts::deny_all() };
    let replaying = HostPorts { journal: journal.clone(), ..HostPorts::deny_all() };
    for ports in [calling, replaying] {
        let report = sandbox.run(&skill, request(json!({}), Limits::default()), ports).await;
        let failure = failure(&report);
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, codes::CALL_LIMIT));
        let reached = LimitReached { name: LimitName::SkillCalls, max: 256, used: 257 };
        assert_eq!((failure.limit, report.skill_calls), (Some(reached), 256));
    }
    assert_eq!(*busy.0.lock().unwrap(), [255, 154, 53], "each has what is left, and a replay calls nobody");
    // A callee starts with what its caller had left.
    let spent = RunRequest { skill_calls: 0, ..request(json!({}), Limits::default()) };
    let report = sandbox.run(&skill, spent, HostPorts { skills: busy.clone(), ..HostPorts::deny_all() }).await;
    assert_eq!((failure(&report).code.as_str(), report.skill_calls), (codes::CALL_LIMIT, 0));
    assert_eq!(busy.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_a_callee_used_comes_out_of_the_callers_fuel() {
    let wasm = caller();
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &wasm).await;
    let ports = HostPorts { skills: Arc::new(Callee), ..HostPorts::deny_all() };
    let report = sandbox.run(&skill, request(json!({"a": 1}), Limits::default()), ports.clone()).await;
    assert_eq!(output(&report), &json!({"a": 1}));
    assert!((1_000_000..1_100_000).contains(&report.usage.fuel), "{}", report.usage.fuel);
    let limits = Limits { fuel: 1_000_010, ..Limits::default() };
    let report = sandbox.run(&skill, request(json!({"a": 1}), limits), ports).await;
    assert_eq!(failure(&report).code, codes::FUEL, "nothing is left after the callee");
}

#[tokio::test]
async fn secrets_answer_only_yes_or_no() {
    let wasm = skill(
        r#"(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))"#,
        r#"(i32.store (i32.const 3072) (i32.const 0x79656b)) ;; "key"
        (i32.store8 (i32.const 3076) (i32.add (i32.const 48) (call $exists (i32.const 3072) (i32.const 3))))
        (call $ok (i32.const 3076) (i32.const 1) (f64.const 1))"#,
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &wasm).await;
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!(0));
}

const SUBSCRIBE: &str = r#"(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration"
    (func $subscribe (param i64) (result i32)))"#;

/// Waits so often for a list of 9,990 times the same timer, logging a line after each, then searches.
fn poller(times: u32) -> Vec<u8> {
    let imports = format!(
        r#"{CALL_TOOL} {SUBSCRIBE}
        (import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
        (import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))"#
    );
    let definitions = format!(
        "{RUN} (local $timer i32) (local $n i32)
            (local.set $timer (call $subscribe (i64.const 0)))
            (loop $more
                (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $n) (i32.const 4))) (local.get $timer))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 9990))))
            (local.set $n (i32.const {times}))
            (loop $more
                (global.set $heap (i32.const 131072))
                (call $poll (i32.const 4096) (i32.const 9990) (i32.const 1536))
                (if (i32.ne (i32.load (i32.const 1540)) (i32.const 9990)) (then unreachable))
                (call $log (i32.const 1) (i32.const 2048) (i32.const 6))
                (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                (br_if $more (local.get $n)))
            {SEARCH}
            (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1)))
        {NAMES}"
    );
    component("guest", &imports, &definitions)
}

#[tokio::test]
async fn waiting_for_long_lists_ends_before_it_fills_the_journal() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &poller(9_990)).await;
    let ports = ports(&Tools::new(Vec::new()), &MemoryJournal::of(Vec::new()));
    let limits = Limits { fuel: Limits::MAX.fuel, time_ms: Limits::MAX.time_ms, ..Limits::default() };
    let report = sandbox.run(&skill, request(json!({}), limits), ports).await;
    assert_eq!((failure(&report).kind, failure(&report).code.as_str()), (FailureKind::Permanent, codes::CALL_LIMIT));
    assert_eq!(report.logs.len(), 16, "lists waited for before the readings were used up");
}

#[tokio::test]
async fn a_replayed_run_has_as_many_readings_left() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &poller(15)).await;
    let journal = MemoryJournal::of(Vec::new());
    let asks = ports(&Tools::new(vec![Reply::Suspend]), &journal);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), asks).await;
    assert_eq!(report.end, RunEnd::Suspended(approval()));
    let answers = ports(&Tools::new(vec![Reply::Say("1")]), &journal);
    let report = sandbox.run(&skill, request(json!({}), Limits::default()), answers).await;
    assert_eq!(output(&report), &json!(1));
}

/// Searches so often, forgetting each answer, then returns its input.
/// A skill that says in the host's name that a human refused.
fn impostor(contract: &str) -> Vec<u8> {
    let body = format!(
        "(data (i32.const 2048) \"refused-by-human\") {}
        (i32.store8 (i32.const 1536) (i32.const 1))
        (i32.store8 (i32.const 1544) (i32.const 3))
        (i32.store (i32.const 1548) (i32.const 2048))
        (i32.store (i32.const 1552) (i32.const 16))
        (i32.store (i32.const 1556) (i32.const 2048))
        (i32.store (i32.const 1560) (i32.const 7))
        (i32.const 1536))",
        common::RUN
    );
    common::component_against(contract, "guest", "", &body)
}

#[tokio::test]
async fn a_skill_does_not_speak_for_the_host() {
    for contract in ["0.1.0", "0.2.0"] {
        let report = common::run_with(&sandbox(), &impostor(contract), Limits::default()).await;
        let failure = failure(&report);
        assert_eq!(
            (failure.kind, failure.code.as_str()),
            (FailureKind::Denied, "skill-refused-by-human"),
            "{contract}"
        );
        assert_eq!(failure.message, "refused");
    }
}

fn searcher_of(times: u32) -> Vec<u8> {
    let definitions = format!(
        "{RUN} (local $n i32)
            (local.set $n (i32.const {times}))
            (loop $more
                (global.set $heap (i32.const 131072))
                {SEARCH}
                (if (i32.load8_u (i32.const 1536)) (then (return (i32.const 1536))))
                (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                (br_if $more (local.get $n)))
            (call $ok (local.get $input) (local.get $input_len) (f64.const 1)))
        {NAMES}"
    );
    component("guest", CALL_TOOL, &definitions)
}

#[tokio::test]
async fn a_run_that_is_answered_too_much_ends_and_so_does_its_replay() {
    const ANSWER: usize = 1 << 20;
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &searcher_of(200)).await;
    let limits = Limits { mcp_calls: 256, fuel: Limits::MAX.fuel, time_ms: Limits::MAX.time_ms, ..Limits::default() };
    let large: &'static str = Box::leak("x".repeat(ANSWER - 1000).into_boxed_str());
    let journal = MemoryJournal::of(Vec::new());
    let tools = Tools::new(vec![Reply::Say(large); 200]);
    let report = sandbox.run(&skill, request(json!({}), limits), ports(&tools, &journal)).await;
    assert_eq!((failure(&report).kind, failure(&report).code.as_str()), (FailureKind::Permanent, codes::CALL_LIMIT));
    assert!(failure(&report).message.contains("64 MiB"), "{}", failure(&report).message);
    let sent = tools.calls.lock().unwrap().len();
    assert_eq!(sent, 65, "one more than fits, and nothing was sent that could not be recorded");
    assert_eq!(journal.entries().len(), 1 + sent);

    let silent = Tools::new(Vec::new());
    let report = sandbox.run(&skill, request(json!({}), limits), ports(&silent, &journal)).await;
    assert_eq!(failure(&report).code, codes::CALL_LIMIT);
    assert_eq!(silent.replayed.lock().unwrap().len(), sent);
    assert!(silent.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_weight_that_cannot_be_added_up_is_refused() {
    let observe = |weight: &str| {
        skill(
            r#"(import "chimera:skill/trends@0.1.0" "observe" (func $observe (param i32 i32 f64 i32 i32 i32)))"#,
            &format!(
                "(call $observe (local.get $input) (i32.const 1) (f64.const {weight}) (local.get $input) (i32.const 1)
                    (i32.const 1536))
                (if (i32.load8_u (i32.const 1536)) (then (return (i32.const 1536))))
                (call $ok (local.get $input) (local.get $input_len) (f64.const 1))"
            ),
        )
    };
    let sandbox = sandbox();
    for (weight, code) in [
        ("1.7e308", own::ARGUMENT_INVALID),
        ("1.001e9", own::ARGUMENT_INVALID),
        ("-1", own::ARGUMENT_INVALID),
        ("nan", own::ARGUMENT_INVALID),
        // These reach the port, which denies everything.
        ("1e9", codes::NOT_GRANTED),
        ("0", codes::NOT_GRANTED),
    ] {
        let skill = prepare(&sandbox, &observe(weight)).await;
        let mut request = request(json!({}), Limits::default());
        request.manifest = manifest_with(json!({ "trends": ["observe"] }));
        let report = sandbox.run(&skill, request, HostPorts::deny_all()).await;
        assert_eq!(failure(&report).code, code, "{weight}");
    }
}

/// What a run of this guest with this input was answered, and its report.
async fn recorded(sandbox: &Sandbox, wasm: &[u8], input: Value) -> (Tape, RunReport) {
    let (tools, journal) = (Tools::new(vec![Reply::Say("found it")]), MemoryJournal::of(Vec::new()));
    let prepared = prepare(sandbox, wasm).await;
    let report = sandbox.run(&prepared, request(input, Limits::default()), ports(&tools, &journal)).await;
    let mut entries = journal.entries();
    entries.extend(report.unwritten.entries());
    (Tape { skill: prepared.digest(), limits: Limits::default(), entries }, report)
}

#[tokio::test]
async fn a_replay_is_the_run_again_without_any_port() {
    let sandbox = sandbox();
    let (tape, first) = recorded(&sandbox, &searcher(), json!({ "q": 1 })).await;
    assert_eq!(tape.entries.len(), 2, "the start and the call");
    let prepared = prepare(&sandbox, &searcher()).await;
    let again = sandbox.replay(&prepared, request(json!({ "q": 1 }), Limits::default()), tape).await;
    assert_eq!(again.end, first.end);
    let figures = |report: &RunReport| (report.usage.fuel, report.usage.peak_memory_bytes, report.usage.mcp_calls);
    assert_eq!(figures(&again), figures(&first));
    assert!(again.unwritten.entries().is_empty() && again.unwritten.unanswered.is_empty());
}

#[tokio::test]
async fn the_start_of_a_run_that_asked_for_nothing_is_replayed_too() {
    let sandbox = sandbox();
    let (tape, first) = recorded(&sandbox, &common::echo(), json!({ "a": 1 })).await;
    assert_eq!(tape.entries.len(), 1, "the start");
    let prepared = prepare(&sandbox, &common::echo()).await;
    let again = sandbox.replay(&prepared, request(json!({ "a": 1 }), Limits::default()), tape.clone()).await;
    assert_eq!((&again.end, again.usage.fuel), (&first.end, first.usage.fuel));
    // Another input is another run.
    let other = sandbox.replay(&prepared, request(json!({ "a": 2 }), Limits::default()), tape).await;
    assert!(matches!(&other.end, RunEnd::Diverged(divergence) if divergence.ordinal == 0), "{:?}", other.end);
}

#[tokio::test]
async fn a_changed_skill_diverges_where_it_takes_another_turn() {
    let sandbox = sandbox();
    let input = json!({ "q": 1 });
    let (tape, _) = recorded(&sandbox, &searcher(), input.clone()).await;
    let diverged = async |wasm: &[u8]| {
        let prepared = prepare(&sandbox, wasm).await;
        match sandbox.replay(&prepared, request(input.clone(), Limits::default()), tape.clone()).await.end {
            RunEnd::Diverged(divergence) => divergence,
            other => panic!("expected a divergence, found {other:?}"),
        }
    };
    let changed = |body: String| component("guest", CALL_TOOL, &format!("{RUN} {body}) {NAMES}"));
    let other_arguments = SEARCH.replace("(local.get $input) (local.get $input_len)", "(i32.const 2060) (i32.const 7)");
    let other =
        diverged(&changed(format!("{other_arguments} (i32.const 1536)) (data (i32.const 2060) \"{{\\22q\\22:2}}\"")))
            .await;
    assert_eq!(other.ordinal, 1);
    assert!(other.asked.starts_with("mcp.call-tool") && other.asked.contains("{\"q\":2}"), "{other}");
    let twice = diverged(&changed(format!("{SEARCH} {SEARCH} (i32.const 1536)"))).await;
    assert_eq!((twice.ordinal, twice.recorded.as_str()), (2, Divergence::NOTHING));
}
