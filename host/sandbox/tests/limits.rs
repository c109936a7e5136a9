//! Every limit ends a run with the right failure, and the next run is as good as the first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_core::failure::{FailureKind, LimitName, LimitReached, codes};
use chimera_core::json::{MAX_DEPTH, MAX_VALUES};
use chimera_core::manifest::Limits;
use chimera_core::ports::HostPorts;
use chimera_sandbox::{RunEnd, RunReport};
use common::{component, component_with_memory, echo, failure, output, prepare, request, run_with, sandbox, skill};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SPIN: &str = "(loop $forever (br $forever)) unreachable";

fn limits() -> Limits {
    Limits { fuel: Limits::MAX.fuel, ..Limits::default() }
}

fn assert_permanent(report: &RunReport, code: &str) {
    let failure = failure(report);
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, code), "{}", failure.message);
}

/// It ended at that limit, of that value, and had used or asked for at least that.
fn assert_limit(report: &RunReport, name: LimitName, max: u64) {
    let reached = failure(report).limit.unwrap_or_else(|| panic!("no limit is named: {:?}", failure(report)));
    assert_eq!((reached.name, reached.max), (name, max), "{reached:?}");
    assert!(reached.used >= max, "{reached:?}");
}

#[tokio::test]
async fn a_skill_returns_and_its_usage_is_counted() {
    let report = run_with(&sandbox(), &echo(), Limits::default()).await;
    assert_eq!(output(&report), &json!({}));
    assert!(report.usage.fuel > 0);
    assert!(report.usage.peak_memory_bytes >= 4 * 65536);
    assert_eq!(report.usage.host_calls, 0);
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_deadline() {
    let started = Instant::now();
    let report = run_with(&sandbox(), &skill("", SPIN), Limits { time_ms: 200, ..limits() }).await;
    assert_permanent(&report, codes::DEADLINE);
    assert!(report.usage.fuel > 0, "what it used is told also when it failed");
    assert!(report.usage.wall_ms >= 200);
    assert_limit(&report, LimitName::Time, 200);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn an_endless_loop_ends_when_its_fuel_is_gone() {
    let report = run_with(&sandbox(), &skill("", SPIN), Limits { fuel: 1_000_000, ..limits() }).await;
    assert_permanent(&report, codes::FUEL);
    assert_eq!(report.usage.fuel, 1_000_000);
    assert_limit(&report, LimitName::Fuel, 1_000_000);
}

#[tokio::test]
async fn memory_is_refused_beyond_the_limit() {
    let greedy = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let report = run_with(&sandbox(), &skill("", greedy), Limits { memory_mb: 16, ..limits() }).await;
    assert_permanent(&report, codes::MEMORY);
    assert!(report.usage.peak_memory_bytes <= 16 << 20);
    assert!(report.usage.peak_memory_bytes > 8 << 20);
    assert_limit(&report, LimitName::Memory, 16 << 20);

    let stubborn = "(loop $more (drop (memory.grow (i32.const 1))) (br $more)) unreachable";
    let report = run_with(&sandbox(), &skill("", stubborn), Limits { memory_mb: 16, ..limits() }).await;
    assert_permanent(&report, codes::MEMORY);
}

#[tokio::test]
async fn a_guest_that_handles_a_refusal_goes_on() {
    let careful = "(drop (memory.grow (i32.const 60000)))
        (call $ok (local.get $input) (local.get $input_len) (f64.const 1))";
    let report = run_with(&sandbox(), &skill("", careful), Limits { memory_mb: 1, ..limits() }).await;
    assert!(matches!(report.end, RunEnd::Finished(_)), "{:?}", report.end);
}

#[tokio::test]
async fn a_component_that_starts_larger_than_its_limit_does_not_start() {
    let wasm = component_with_memory(32, "guest", "", &format!("{} unreachable)", common::RUN));
    let report = run_with(&sandbox(), &wasm, Limits { memory_mb: 1, ..limits() }).await;
    assert_permanent(&report, codes::MEMORY);
    assert_eq!(report.usage.peak_memory_bytes, 0);
}

#[tokio::test]
async fn traps_are_permanent() {
    let sandbox = sandbox();
    let report = run_with(&sandbox, &skill("", "unreachable"), limits()).await;
    assert_permanent(&report, codes::TRAP);
    assert!(failure(&report).message.contains("unreachable"), "{}", failure(&report).message);
    let deep = component(
        "guest",
        "",
        &format!(
            "(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
            {} (call $deep (i32.const 0)))",
            common::RUN
        ),
    );
    let report = run_with(&sandbox, &deep, limits()).await;
    assert_permanent(&report, codes::TRAP);
    assert!(failure(&report).message.contains("call stack exhausted"), "{}", failure(&report).message);
    assert_limit(&report, LimitName::Stack, 256 << 10);
    assert_eq!(output(&run_with(&sandbox, &echo(), limits()).await), &json!({}), "the next run is normal");
}

#[tokio::test]
async fn outcomes_are_held_against_the_contract() {
    let sandbox = sandbox();
    let with = |confidence: &str| {
        skill("", &format!("(call $ok (local.get $input) (local.get $input_len) (f64.const {confidence}))"))
    };
    for confidence in ["nan", "-0.1", "1.01", "inf"] {
        assert_permanent(&run_with(&sandbox, &with(confidence), limits()).await, codes::CONFIDENCE_INVALID);
    }
    let deep = (0..=MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    let echo = prepare(&sandbox, &echo()).await;
    for (input, why) in [(deep, "nested deeper than 64"), (json!(vec![0; MAX_VALUES]), "at most 65536 are taken")] {
        let report = sandbox.run(&echo, request(input, limits()), HostPorts::deny_all()).await;
        assert_permanent(&report, codes::OUTPUT_INVALID);
        assert!(failure(&report).message.contains(why), "{}", failure(&report).message);
    }
    let garbage = skill("", "(call $ok (i32.const 2048) (i32.const 3) (f64.const 1))");
    assert_permanent(&run_with(&sandbox, &garbage, limits()).await, codes::OUTPUT_INVALID);
    // Two MiB of zero bytes are over the output limit; all of a large memory is over what is copied at all.
    let large = |len: u32| {
        skill(
            "",
            &format!(
                "(drop (memory.grow (i32.const 4000)))
                (call $ok (i32.const 65536) (i32.const {len}) (f64.const 1))"
            ),
        )
    };
    let roomy = Limits { memory_mb: 512, ..limits() };
    for (len, max) in [(2 << 20, roomy.output_bytes() as u64), (200 << 20, 17 << 20)] {
        let report = run_with(&sandbox, &large(len), roomy).await;
        assert_permanent(&report, codes::OUTPUT_SIZE);
        assert_limit(&report, LimitName::Output, max);
    }
}

#[tokio::test]
async fn too_large_an_input_does_not_reach_the_guest() {
    let sandbox = sandbox();
    let prepared = prepare(&sandbox, &echo()).await;
    let input = json!("x".repeat(2 << 20));
    let report = sandbox.run(&prepared, request(input, limits()), HostPorts::deny_all()).await;
    assert_eq!(failure(&report).kind, FailureKind::InvalidInput);
    assert_limit(&report, LimitName::Input, 1 << 20);
}

#[tokio::test]
async fn tables_are_refused_beyond_the_limit() {
    let greedy = component(
        "guest",
        "",
        &format!(
            "(table $t 1 funcref) {} (loop $more (br_if $more
                (i32.ne (table.grow $t (ref.null func) (i32.const 50000)) (i32.const -1)))) unreachable)",
            common::RUN
        ),
    );
    let report = run_with(&sandbox(), &greedy, limits()).await;
    assert_permanent(&report, codes::LIMIT);
    assert_limit(&report, LimitName::Tables, 60_000);
    let many: String = (0..4).map(|n| format!("(table $t{n} 1 funcref)")).collect();
    let wasm = component(
        "guest",
        "",
        &format!(
            "{many} {} (loop $on (drop (table.grow $t1 (ref.null func) (i32.const 70000))) (br $on)) unreachable)",
            common::RUN
        ),
    );
    let report = run_with(&sandbox(), &wasm, limits()).await;
    assert_permanent(&report, codes::LIMIT);
    assert_limit(&report, LimitName::Tables, 60_000);
}

#[tokio::test]
async fn a_trap_is_blamed_on_a_refusal_only_if_it_follows_from_it() {
    let refused = "(drop (memory.grow (i32.const 60000)))";
    let exists = r#"(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))"#;
    let store = "(i32.store (i32.mul (memory.grow (i32.const 60000)) (i32.const 65536)) (i32.const 1))";
    for (imports, body, code) in [
        ("", format!("{refused} unreachable"), codes::MEMORY),
        ("", format!("{store} unreachable"), codes::MEMORY),
        ("", format!("{refused} (drop (memory.grow (i32.const 1))) unreachable"), codes::MEMORY),
        // What follows is about something else.
        ("", format!("{refused} (i32.div_u (i32.const 1) (i32.const 0))"), codes::TRAP),
        ("", format!("{refused} (drop (memory.grow (i32.const 100))) unreachable"), codes::TRAP),
        (exists, format!("{refused} (drop (call $exists (i32.const 2048) (i32.const 3))) unreachable"), codes::TRAP),
    ] {
        let wasm = component("guest", imports, &format!("(data (i32.const 2048) \"key\") {} {body})", common::RUN));
        let report = run_with(&sandbox(), &wasm, Limits { memory_mb: 16, ..limits() }).await;
        assert_permanent(&report, code);
        match code {
            codes::MEMORY => assert_limit(&report, LimitName::Memory, 16 << 20),
            _ => assert_eq!(failure(&report).limit, None, "{body}"),
        }
    }
}

/// A memory's or table's own maximum is not the host's limit, and what it forbids takes nothing.
#[tokio::test]
async fn a_table_of_its_own_size_grows_to_it() {
    let wasm = component(
        "guest",
        "",
        &format!(
            "(table $t 1 10 funcref) {}
            (loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 4)) (i32.const -1))))
            (table.set $t (i32.const 10) (ref.null func)) unreachable)",
            common::RUN
        ),
    );
    let report = run_with(&sandbox(), &wasm, limits()).await;
    assert_permanent(&report, codes::TRAP);
    assert_eq!(failure(&report).limit, None);
}

#[tokio::test]
async fn a_component_beyond_the_pool_is_told_which_limit_it_is() {
    let sandbox = sandbox();
    let of = |module: &str, times: usize| {
        let instances = "(core instance (instantiate $m))".repeat(times);
        wat::parse_str(format!("(component (core module $m {module}) {instances})")).unwrap()
    };
    let tables = |count: usize| "(table 1 funcref)".repeat(count);
    for (wasm, name, max, used, what) in [
        (of("", 41), LimitName::Instances, 40, 41, "41 core instances; at most 40"),
        (of("(memory 1)", 9), LimitName::Instances, 8, 9, "9 memories; at most 8"),
        (of(&tables(4), 8), LimitName::Instances, 30, 32, "32 tables; at most 30"),
        (of(&tables(5), 1), LimitName::Instances, 4, 5, "5 tables in one module; at most 4"),
        (of("(memory 8193)", 1), LimitName::Memory, 512 << 20, 8193 << 16, "bytes of memory to begin with"),
        (of("(table 60001 funcref)", 1), LimitName::Tables, 60_000, 60_001, "elements in a table"),
    ] {
        let refused = sandbox.prepare(&chimera_core::digest::Digest::of(&wasm), &wasm).await.unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (FailureKind::Permanent, codes::COMPILE), "{refused}");
        assert_eq!(refused.limit, Some(LimitReached { name, max, used }), "{refused}");
        assert!(refused.message.contains(what), "{refused}");
    }
    // The most that is given: it fits, and only then is found to be no skill.
    let wasm = of(&format!("(memory 1) {}", tables(3)), 8);
    let refused = sandbox.prepare(&chimera_core::digest::Digest::of(&wasm), &wasm).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.limit), (codes::LINK, None), "{refused}");
}

#[tokio::test]
async fn resources_are_counted() {
    let hoarder = skill(
        r#"(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))"#,
        "(loop $more (drop (call $subscribe (i64.const 1))) (br $more)) unreachable",
    );
    let report = run_with(&sandbox(), &hoarder, limits()).await;
    assert_permanent(&report, codes::LIMIT);
    assert_limit(&report, LimitName::Handles, 1024);
}

#[tokio::test]
async fn random_bytes_are_counted_in_one_call_and_in_a_run() {
    let import = r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#;
    let ask = |bytes: u32, times: u32| {
        component(
            "guest",
            import,
            &format!(
                "(data (i32.const 2048) \"0\") {} (local $n i32)
                (loop $more
                    (global.set $heap (i32.const 65536))
                    (call $random (i64.const {bytes}) (i32.const 1536))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $n) (i32.const {times}))))
                (call $ok (i32.const 2048) (i32.const 1) (f64.const 1)))",
                common::RUN
            ),
        )
    };
    let sandbox = sandbox();
    assert!(matches!(run_with(&sandbox, &ask(1 << 20, 64), limits()).await.end, RunEnd::Finished(_)));
    for (bytes, times, max) in [((1 << 20) + 1, 1, 1 << 20), (1 << 20, 65, 64 << 20)] {
        let report = run_with(&sandbox, &ask(bytes, times), limits()).await;
        assert_permanent(&report, codes::LIMIT);
        assert_limit(&report, LimitName::Random, max);
    }
}

#[tokio::test]
async fn logs_are_bounded() {
    let chatty = skill(
        r#"(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))"#,
        "(local $n i32)
        (loop $more
            (call $log (i32.const 1) (i32.const 2048) (i32.const 1000))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $n) (i32.const 5000))))
        (call $ok (local.get $input) (local.get $input_len) (f64.const 1))",
    );
    let report = run_with(&sandbox(), &chatty, limits()).await;
    assert!(matches!(report.end, RunEnd::Finished(_)));
    assert_eq!(report.logs.len() as u64 + report.dropped_log_lines, 5000);
    // A NUL is not printable and is shown as a three-byte character, so fewer lines fit.
    assert!(report.logs.iter().map(|line| line.message.len()).sum::<usize>() <= 256 << 10);
    assert_eq!(report.usage.host_calls, 5000);
}

const PARK: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#;

#[tokio::test]
async fn parking_on_a_clock_ends_at_the_deadline() {
    let sleeper = skill(PARK, "(call $block (call $subscribe (i64.const 3600000000000))) unreachable");
    let report = run_with(&sandbox(), &sleeper, Limits { time_ms: 200, ..limits() }).await;
    assert_permanent(&report, codes::DEADLINE);
    assert!(report.usage.wall_ms >= 200);
}

#[tokio::test]
async fn waiting_on_a_clock_works() {
    let sleeper = skill(
        PARK,
        "(call $block (call $subscribe (i64.const 20000000)))
        (call $ok (local.get $input) (local.get $input_len) (f64.const 1))",
    );
    let report = run_with(&sandbox(), &sleeper, limits()).await;
    assert_eq!(output(&report), &json!({}));
    assert!(report.usage.wall_ms >= 20);
}

#[test]
fn a_spinning_guest_stalls_nobody() {
    // One worker thread: the others run only because the spinning guest gives way at every tick.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = sandbox();
        let (spinner, echo) = (prepare(&sandbox, &skill("", SPIN)).await, prepare(&sandbox, &echo()).await);
        let still_spinning = Arc::new(AtomicBool::new(true));
        let spinning = tokio::spawn({
            let (sandbox, still_spinning) = (sandbox.clone(), still_spinning.clone());
            async move {
                let limits = Limits { time_ms: 10_000, ..limits() };
                let report = sandbox.run(&spinner, request(json!({}), limits), HostPorts::deny_all()).await;
                still_spinning.store(false, Ordering::SeqCst);
                report
            }
        });
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let report = sandbox.run(&echo, request(json!({}), limits()), HostPorts::deny_all()).await;
            assert!(matches!(report.end, RunEnd::Finished(_)));
        }
        assert!(still_spinning.load(Ordering::SeqCst));
        spinning.abort();
    });
}

#[tokio::test]
async fn when_every_place_is_taken_a_run_waits_until_its_deadline() {
    let config = chimera_sandbox::SandboxConfig { max_concurrent: 1, ..Default::default() };
    let sandbox = chimera_sandbox::Sandbox::new(config).unwrap();
    let (spinner, echo) = (prepare(&sandbox, &skill("", SPIN)).await, prepare(&sandbox, &echo()).await);
    let spin = sandbox.run(&spinner, request(json!({}), Limits { time_ms: 5_000, ..limits() }), HostPorts::deny_all());
    let wait = async {
        let mut request = request(json!({}), limits());
        request.deadline = Instant::now() + Duration::from_millis(100);
        sandbox.run(&echo, request, HostPorts::deny_all()).await
    };
    tokio::select! {
        // In this order: the spinner is to take the place first.
        biased;
        _ = spin => panic!("the spinner has the longer deadline"),
        report = wait => {
            assert_eq!(failure(&report).kind, FailureKind::Transient);
            assert_eq!(failure(&report).code, chimera_sandbox::codes::BUSY);
            assert!(failure(&report).retry_after_ms.is_some());
        }
    }
    let report = sandbox.run(&echo, request(json!(1), limits()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!(1), "a dropped run gives its place back");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn a_thousand_runs_leave_memory_where_it_was() {
    let sandbox = sandbox();
    let touch = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 4194304))";
    let bomb = skill("", &format!("(drop (memory.grow (i32.const 200))) {touch} unreachable"));
    let (bomb, echo) = (prepare(&sandbox, &bomb).await, prepare(&sandbox, &echo()).await);
    let once = async || {
        for skill in [&bomb, &echo] {
            let _ = sandbox.run(skill, request(json!({}), limits()), HostPorts::deny_all()).await;
        }
    };
    for _ in 0..50 {
        once().await;
    }
    let before = resident_bytes();
    for _ in 0..1000 {
        once().await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {} KiB", grown >> 10);
}
