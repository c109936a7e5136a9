//! Several versions of the contract at once: the same guest built against each is told the same and kept within the same.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::manifest::Limits;
use chimera_core::ports::{Budget, Called, HostError, HostPorts, MemoryHit, MemoryPort, SkillsPort};
use chimera_core::skill::SkillName;
use chimera_core::task::Outcome;
use chimera_core::verdict::Decision;
use chimera_sandbox::{JudgedCase, RunEnd, RunRequest, Sandbox};
use common::{
    CALL_TOOL, MemoryJournal, NAMES, RUN, Reply, SEARCH, Tools, component_against, failure, manifest_with, mixed,
    output, ports, prepare, request, sandbox,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];

/// A guest of any version whose `run` has this body.
fn guest(version: &str, imports: &str, body: &str) -> Vec<u8> {
    component_against(version, "guest", imports, &format!("{RUN} {body}) {NAMES}"))
}

const ECHO: &str = "(call $ok (local.get $input) (local.get $input_len) (f64.const 0.5))";

#[tokio::test]
async fn the_same_guest_is_told_the_same_and_journalled_alike() {
    let body = format!(
        "{SEARCH} (if (result i32) (i32.load8_u (i32.const 1536))
            (then (i32.const 1536))
            (else (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1))))"
    );
    let sandbox = sandbox();
    let away = Failure::new(FailureKind::Transient, "away", "not now").retry_after(7);
    for reply in [Reply::Say("[1]"), Reply::Fail(away)] {
        let mut seen = Vec::new();
        for version in VERSIONS {
            let skill = prepare(&sandbox, &guest(version, CALL_TOOL, &body)).await;
            assert_eq!(skill.contract(), version);
            let journal = MemoryJournal::of(Vec::new());
            let live = ports(&Tools::new(vec![reply.clone()]), &journal);
            let first = sandbox.run(&skill, request(json!({"q": 1}), Limits::default()), live).await;
            let replayed = ports(&Tools::new(Vec::new()), &journal);
            let again = sandbox.run(&skill, request(json!({"q": 1}), Limits::default()), replayed).await;
            assert_eq!(first.end, again.end, "{version} replays");
            // The first entry names the component, which is another.
            let entries = journal.entries().split_off(1);
            let asked = json!({"slot": "social", "tool": "search", "arguments": {"q": 1}});
            assert_eq!((&*entries[0].call, entries[0].request), ("mcp.call-tool", Digest::of_json(&asked)));
            seen.push((first.end, first.usage.mcp_calls, entries));
        }
        assert_eq!(seen[0], seen[1]);
    }
}

/// Every function of both versions: its import, and a call of it.
const WISHES: [(&str, &str, &str, &str); 11] = [
    ("mcp", "list-tools", "(param i32 i32 i32)", "A R"),
    ("mcp", "call-tool", "(param i32 i32 i32 i32 i32 i32 i32)", "A A A R"),
    ("mcp", "read-resource", "(param i32 i32 i32 i32 i32)", "A A R"),
    ("memory", "remember", "(param i32 i32 i32 i32 i32)", "A A R"),
    ("memory", "recall", "(param i32 i32 i32 i32)", "A (i32.const 3) R"),
    ("scratch", "get", "(param i32 i32 i32)", "A R"),
    ("scratch", "put", "(param i32 i32 i32 i32 i32)", "A A R"),
    ("scratch", "delete", "(param i32 i32 i32)", "A R"),
    ("trends", "observe", "(param i32 i32 f64 i32 i32 i32)", "A (f64.const 1) A R"),
    ("trends", "top", "(param i64 i32 i32)", "(i64.const 60) (i32.const 3) R"),
    ("secrets", "exists", "(param i32 i32) (result i32)", "A"),
];

/// A guest that makes one call and then returns its input.
fn wishing(version: &str, (interface, function, signature, arguments): (&str, &str, &str, &str)) -> Vec<u8> {
    let imports = format!(r#"(import "chimera:skill/{interface}@0.1.0" "{function}" (func $wish {signature}))"#);
    let text = "(i32.const 2048) (i32.const 6)";
    let call = format!("(call $wish {})", arguments.replace('A', text).replace('R', "(i32.const 1536)"));
    let call = if signature.contains("result") { format!("(drop {call})") } else { call };
    guest(version, &imports, &format!("{call} {ECHO}"))
}

fn asking(capabilities: Value, input: Value) -> RunRequest {
    RunRequest { manifest: manifest_with(capabilities), ..request(input, Limits::default()) }
}

fn call_skill(version: &str) -> (&'static str, &'static str, &'static str, &'static str) {
    match version {
        "0.1.0" => ("skills", "call", "(param i32 i32 i32 i32 i32)", "A A R"),
        _ => (
            "skills",
            "call",
            "(param i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)",
            "A A (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) R",
        ),
    }
}

const FORGET: (&str, &str, &str, &str) = ("memory", "forget", "(param i32 i32 i32)", "A R");

#[tokio::test]
async fn what_is_not_declared_is_refused_in_every_version() {
    let sandbox = sandbox();
    let refused = async |wasm: &[u8], capabilities: &Value| {
        let skill = prepare(&sandbox, wasm).await;
        let report = sandbox.run(&skill, asking(capabilities.clone(), json!({})), HostPorts::deny_all()).await;
        failure(&report).clone()
    };
    let nothing = json!({});
    for wish in WISHES {
        let old = refused(&wishing("0.1.0", wish), &nothing).await;
        assert_eq!((old.kind, old.code.as_str()), (FailureKind::Security, codes::NOT_DECLARED), "{wish:?}");
        assert_eq!(refused(&wishing("0.2.0", wish), &nothing).await, old, "{wish:?}");
    }
    let old = refused(&wishing("0.1.0", call_skill("0.1.0")), &nothing).await;
    assert_eq!((old.kind, old.code.as_str()), (FailureKind::Security, codes::NOT_DECLARED));
    assert_eq!(refused(&wishing("0.2.0", call_skill("0.2.0")), &nothing).await, old);
    // What came with 0.2 passes the same gate, and what is declared of the interface is not enough.
    let remembers = json!({"memory": ["remember", "recall"]});
    let told = refused(&wishing("0.2.0", FORGET), &remembers).await;
    assert_eq!((told.kind, told.code.as_str()), (FailureKind::Security, codes::NOT_DECLARED));
    assert!(told.message.contains("`memory.forget`"), "{told}");
}

#[tokio::test]
async fn what_is_declared_reaches_the_ports_in_every_version() {
    let everything = json!({
        "mcp": [{"slot": "social", "tools": ["social"], "resources": ["social"], "reason": "to look around"}],
        "memory": ["remember", "recall", "forget"], "scratch": true, "trends": ["observe", "top"],
        "secrets": ["social"],
    });
    let sandbox = sandbox();
    for wish in WISHES {
        for version in VERSIONS {
            let skill = prepare(&sandbox, &wishing(version, wish)).await;
            let report = sandbox.run(&skill, asking(everything.clone(), json!(1)), HostPorts::deny_all()).await;
            assert_eq!((output(&report), report.usage.host_calls), (&json!(1), 1), "{version} {wish:?}");
        }
    }
}

/// Remembers nothing but what was to be forgotten.
#[derive(Default)]
struct Forgetful(Mutex<Vec<String>>);

#[async_trait]
impl MemoryPort for Forgetful {
    async fn remember(&self, _: u32, _: &str, _: Value) -> Result<String, HostError> {
        Ok(String::new())
    }
    async fn recall(&self, _: &str, _: u32) -> Result<Vec<MemoryHit>, HostError> {
        Ok(Vec::new())
    }
    async fn forget(&self, id: &str) -> Result<(), HostError> {
        self.0.lock().unwrap().push(id.to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn a_guest_forgets_once_however_often_it_is_run() {
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &wishing("0.2.0", FORGET)).await;
    let (memory, journal) = (Arc::new(Forgetful::default()), MemoryJournal::of(Vec::new()));
    for _ in 0..2 {
        let ports = HostPorts { memory: memory.clone(), journal: journal.clone(), ..HostPorts::deny_all() };
        let report = sandbox.run(&skill, asking(json!({"memory": ["forget"]}), json!(1)), ports).await;
        assert_eq!(output(&report), &json!(1));
    }
    assert_eq!(*memory.0.lock().unwrap(), ["social"]);
    let entry = &journal.entries()[1];
    assert_eq!((&*entry.call, entry.request), ("memory.forget", Digest::of_json(&json!({"id": "social"}))));
}

#[tokio::test]
async fn a_guest_is_told_its_limits() {
    let body = format!(
        "(if (i64.ne (local.get $limit_fuel) (i64.const 123456789)) (then unreachable))
        (if (i64.ne (local.get $limit_ms) (i64.const 4321)) (then unreachable))
        {ECHO}"
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &guest("0.2.0", "", &body)).await;
    let limits = Limits { fuel: 123_456_789, time_ms: 4321, ..Limits::default() };
    let report = sandbox.run(&skill, request(json!(1), limits), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!(1));
    // A replay is let go on less far, and tells the same.
    let tape = chimera_sandbox::Tape { skill: skill.digest(), limits, entries: report.unwritten.entries() };
    let less = Limits { fuel: 1_000_000, ..limits };
    let report = sandbox.replay(&skill, request(json!(1), less), tape).await;
    assert_eq!(output(&report), &json!(1));
}

#[tokio::test]
async fn a_failure_has_details_that_a_program_can_read() {
    let fails = "(i32.store8 (i32.const 1536) (i32.const 1))
        (i32.store8 (i32.const 1544) (i32.const 2))
        (i32.store (i32.const 1548) (i32.const 2048)) (i32.store (i32.const 1552) (i32.const 6))
        (i32.store (i32.const 1556) (i32.const 2048)) (i32.store (i32.const 1560) (i32.const 6))
        (i32.store8 (i32.const 1584) (i32.const 1))
        (i32.store (i32.const 1588) (local.get $input)) (i32.store (i32.const 1592) (local.get $input_len))
        (i32.const 1536)";
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &guest("0.2.0", "", fails)).await;
    let told = async |input: Value| {
        let report = sandbox.run(&skill, request(input, Limits::default()), HostPorts::deny_all()).await;
        failure(&report).clone()
    };
    let found = told(json!({"field": "url"})).await;
    assert_eq!((found.kind, found.code.as_str()), (FailureKind::Permanent, "social"));
    assert_eq!(found.details.as_deref(), Some(&json!({"field": "url"})));
    assert_eq!(told(json!("x".repeat(5000))).await.details, None, "too large");
}

/// A callee that notes what it was given, and takes a million units of fuel and 3 ms.
#[derive(Default)]
struct Callee(Mutex<Vec<(u64, Duration)>>);

#[async_trait]
impl SkillsPort for Callee {
    async fn call(&self, _: u32, name: &SkillName, input: Value, budget: Budget) -> Called {
        assert_eq!(name.as_str(), "acme/other");
        let time = budget.deadline.saturating_duration_since(Instant::now());
        self.0.lock().unwrap().push((budget.fuel, time));
        let outcome = Outcome { output: input, confidence: 1.0, evidence: Vec::new() };
        Called { result: Ok(outcome), fuel: 1_000_000, wall_ms: 3, calls: 0 }
    }
}

/// Calls `acme/other` with its input and this budget, and traps unless it is told what the callee took.
fn calls_with_budget(budget: &str) -> Vec<u8> {
    let imports = r#"(import "chimera:skill/skills@0.1.0" "call"
        (func $call (param i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))"#;
    let body = format!(
        r#"{RUN} (call $call (i32.const 2048) (i32.const 10) (local.get $input) (local.get $input_len)
            {budget} (i32.const 1536))
        (if (i64.ne (i64.load (i32.const 1568)) (i64.const 3)) (then unreachable))
        (if (i64.ne (i64.load (i32.const 1576)) (i64.const 1000000)) (then unreachable))
        (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1)))
        (data (i32.const 2048) "acme/other")"#
    );
    component_against("0.2.0", "guest", imports, &body)
}

#[tokio::test]
async fn a_callee_gets_what_its_caller_gives_it_and_never_more_than_there_is() {
    let sandbox = sandbox();
    let limits = Limits { fuel: 50_000_000, time_ms: 20_000, ..Limits::default() };
    let some =
        |ms: i64, fuel: i64| format!("(i32.const 1) (i32.const 1) (i64.const {ms}) (i32.const 1) (i64.const {fuel})");
    let none = "(i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0)".to_owned();
    let asked = |budget: Option<Value>| {
        let mut asked = json!({"name": "acme/other", "input": [1]});
        if let Some(budget) = budget {
            asked["budget"] = budget;
        }
        Digest::of_json(&asked)
    };
    let unlimited = asked(Some(json!({"time-ms": u64::MAX, "fuel": u64::MAX})));
    for (budget, most_fuel, most_ms, hash) in [
        (some(1500, 2_000_000), 2_000_000, 1500, asked(Some(json!({"time-ms": 1500, "fuel": 2_000_000})))),
        (some(-1, -1), 50_000_000, 20_000, unlimited),
        (none, 50_000_000, 20_000, asked(None)),
    ] {
        let skill = prepare(&sandbox, &calls_with_budget(&budget)).await;
        let (callee, journal) = (Arc::new(Callee::default()), MemoryJournal::of(Vec::new()));
        let calling = HostPorts { skills: callee.clone(), journal: journal.clone(), ..HostPorts::deny_all() };
        let replaying = HostPorts { journal: journal.clone(), ..HostPorts::deny_all() };
        for ports in [calling, replaying] {
            let report = sandbox.run(&skill, request(json!([1]), limits), ports).await;
            assert_eq!(output(&report), &json!([1]));
            assert!((1_000_000..1_100_000).contains(&report.usage.fuel), "{}", report.usage.fuel);
        }
        let given = callee.0.lock().unwrap();
        let [(fuel, time)] = given.as_slice() else { panic!("called once: {given:?}") };
        assert!(*fuel <= most_fuel && *time <= Duration::from_millis(most_ms), "{fuel} {time:?}");
        assert!(*fuel > most_fuel - 100_000, "{fuel}");
        assert_eq!(journal.entries()[1].request, hash);
    }
}

#[tokio::test]
async fn a_journal_from_before_a_callees_time_was_kept_is_replayed() {
    let wasm = component_against(
        "0.1.0",
        "guest",
        r#"(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))"#,
        &format!(
            r#"{RUN} (call $call (i32.const 2048) (i32.const 10) (local.get $input) (local.get $input_len)
                (i32.const 1536)) (i32.const 1536)) (data (i32.const 2048) "acme/other")"#
        ),
    );
    let sandbox = sandbox();
    let skill = prepare(&sandbox, &wasm).await;
    let journal = MemoryJournal::of(Vec::new());
    let calling = HostPorts { skills: Arc::new(Callee::default()), journal: journal.clone(), ..HostPorts::deny_all() };
    let first = sandbox.run(&skill, request(json!([1]), Limits::default()), calling).await;
    assert_eq!(output(&first), &json!([1]));
    let mut entries = journal.entries();
    let mut told = entries[1].answer.value();
    let kept = told["ok"].as_object_mut().unwrap();
    assert_eq!(kept.remove("time_ms"), Some(json!(3)));
    let mut names: Vec<&str> = kept.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["fuel", "returned"]);
    entries[1].answer = (&told).into();
    let replaying = HostPorts { journal: MemoryJournal::of(entries), ..HostPorts::deny_all() };
    let again = sandbox.run(&skill, request(json!([1]), Limits::default()), replaying).await;
    assert_eq!((again.end, again.usage.fuel), (first.end, first.usage.fuel));
}

async fn not_prepared(sandbox: &Sandbox, wasm: &[u8]) -> String {
    let failure = sandbox.prepare(&Digest::of(wasm), wasm).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, codes::LINK));
    failure.message
}

#[tokio::test]
async fn a_version_that_is_not_served_is_refused_and_both_are_named() {
    let sandbox = sandbox();
    for version in ["0.0.9", "0.1.1", "0.2.1", "0.3.0", "1.0.0"] {
        let message = not_prepared(&sandbox, &guest(version, "", ECHO)).await;
        assert!(message.contains(&format!("chimera:skill/runner@{version}")), "{message}");
        assert!(message.contains("0.1.0 and 0.2.0"), "{message}");
    }
    let message = not_prepared(&sandbox, &mixed()).await;
    assert!(message.contains("chimera:skill/runner@0.2.0"), "{message}");
    assert!(message.contains("chimera:skill/secrets@0.1.0") && message.contains("0.1.0 and 0.2.0"), "{message}");
}

#[tokio::test]
async fn a_judge_of_any_version_gives_its_opinion() {
    let definitions = r#"(func (export "chimera:skill/evaluator@0.1.0#evaluate")
            (param i32 i32 i32 i32 i32 i32 i32 i32 f64 i32 i32) (result i32)
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store8 (i32.const 1032) (i32.const 4))
            (f64.store (i32.const 1040) (f64.const 0.25))
            (i32.store (i32.const 1048) (i32.const 2048))
            (i32.store (i32.const 1052) (i32.const 3))
            (i32.const 1024))
        (data (i32.const 2048) "no!")"#;
    let sandbox = sandbox();
    for version in VERSIONS {
        let judge = prepare(&sandbox, &component_against(version, "judge", "", definitions)).await;
        assert_eq!(judge.contract(), version);
        let case = JudgedCase {
            goal: "to please".to_owned(),
            skill: "acme/x".to_owned(),
            input: json!({}),
            output: json!({}),
            confidence: 1.0,
            evidence: vec!["a".to_owned()],
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let opinion = sandbox.evaluate(&judge, case, Limits::default(), deadline).await.unwrap();
        assert_eq!((opinion.decision, opinion.confidence, opinion.reason.as_str()), (Decision::Reject, 0.25, "no!"));
        let report = sandbox.run(&judge, request(json!({}), Limits::default()), HostPorts::deny_all()).await;
        assert!(matches!(report.end, RunEnd::Failed(_)));
    }
}
