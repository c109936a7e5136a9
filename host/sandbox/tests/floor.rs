//! The floor of the benchmarks: the guests that are measured run on it, whatever WASI they were built against.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_sandbox::floor::{Bare, Gate};
use common::{CALL_TOOL, NAMES, RUN, SEARCH, component_against, prepare, sandbox};
use std::sync::Arc;

async fn call(wasm: &[u8], gate: Arc<Gate>) -> Result<String, String> {
    let sandbox = sandbox();
    let prepared = prepare(&sandbox, wasm).await;
    Bare::new(&sandbox, &prepared, gate).unwrap().call(r#"{"a":1}"#).await
}

/// A skill of the version that the floor calls, whose `run` has this body.
fn skill(imports: &str, body: &str) -> Vec<u8> {
    component_against("0.2.0", "guest", imports, &format!("{RUN} {body}) {NAMES}"))
}

const ECHO: &str = "(call $ok (local.get $input) (local.get $input_len) (f64.const 0.5))";

/// The guest's WASI is 0.2.6, which is not the engine's.
#[tokio::test]
async fn a_bare_guest_has_clocks_and_random_numbers() {
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
        (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#;
    let wasm = skill(imports, &format!("(drop (call $now)) (drop (call $random)) {ECHO}"));
    assert_eq!(call(&wasm, Arc::new(Gate::new())).await.unwrap(), r#"{"a":1}"#);
}

#[tokio::test]
async fn a_bare_guest_waits_at_the_gate_of_its_tools() {
    let gate = Arc::new(Gate::new());
    let wasm = skill(CALL_TOOL, &format!("{SEARCH} {ECHO}"));
    let waiting = tokio::spawn({
        let gate = gate.clone();
        async move { call(&wasm, gate).await }
    });
    while gate.arrived() == 0 {
        assert!(!waiting.is_finished(), "it did not wait");
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(waiting.await.unwrap().unwrap(), r#"{"a":1}"#);
}

#[tokio::test]
async fn a_bare_guest_that_wants_more_of_the_contract_is_told_what_is_not_there() {
    let import = r#"(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))"#;
    let wasm = skill(import, &format!("(drop (call $exists (i32.const 0) (i32.const 0))) {ECHO}"));
    let told = call(&wasm, Arc::new(Gate::new())).await.unwrap_err();
    assert!(told.contains("chimera:skill/secrets@0.2.0#exists"), "{told}");
}
