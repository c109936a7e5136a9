//! Compiling in a child process: this program is its own child, so it has no test harness around it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_core::digest::Digest;
use chimera_core::failure::codes;
use chimera_core::manifest::Limits;
use chimera_core::ports::HostPorts;
use chimera_sandbox::{Compiler, Sandbox, SandboxConfig, compile_child_main};
use common::{echo, output, request};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("compile-component") {
        return compile_child_main();
    }
    // Asked by test runners for the list of tests; there is none.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        a_child_compiles().await;
        a_child_is_bounded().await;
    });
    println!("compile_child: ok");
    ExitCode::SUCCESS
}

fn sandbox(change: impl FnOnce(&mut SandboxConfig)) -> Sandbox {
    let compiler = Compiler::Child(std::env::current_exe().unwrap());
    let mut config = SandboxConfig { compiler, max_concurrent: 4, ..SandboxConfig::default() };
    change(&mut config);
    Sandbox::new(config).unwrap()
}

async fn a_child_compiles() {
    let (sandbox, wasm) = (sandbox(|_| ()), echo());
    let prepared = sandbox.prepare(&Digest::of(&wasm), &wasm).await.unwrap();
    let report = sandbox.run(&prepared, request(json!("hello"), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!("hello"));
}

async fn a_child_is_bounded() {
    let wasm = echo();
    let starved = sandbox(|config| config.compile_memory_bytes = 20 << 20);
    assert_eq!(starved.prepare(&Digest::of(&wasm), &wasm).await.unwrap_err().code, codes::COMPILE);
    let hurried = sandbox(|config| config.compile_time = Duration::from_nanos(1));
    assert_eq!(hurried.prepare(&Digest::of(&wasm), &wasm).await.unwrap_err().code, codes::COMPILE);
    let missing = sandbox(|config| config.compiler = Compiler::Child("/nonexistent".into()));
    assert_eq!(missing.prepare(&Digest::of(&wasm), &wasm).await.unwrap_err().code, codes::HOST);
    let silent = sandbox(|config| config.max_compiled_bytes = 10);
    assert_eq!(silent.prepare(&Digest::of(&wasm), &wasm).await.unwrap_err().code, codes::COMPILE);
}
