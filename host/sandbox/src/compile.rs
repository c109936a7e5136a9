//! Turns a stranger's bytes into machine code, within limits.
//!
//! Compiling hostile bytes may take any time and memory, so sizes are capped and the bytes validated first, and for
//! strangers it happens in a child process that can be killed. Nothing is run here. Called when a component is prepared,
//! and by the child itself ([`compile_child_main`]).

use crate::config::{Compiler, SandboxConfig};
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::text::{printable, truncated};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};
use wasmtime::Engine;

/// Names of the environment variables that carry the child's limits.
const MEMORY_VARIABLE: &str = "CHIMERA_COMPILE_MEMORY";
const SECONDS_VARIABLE: &str = "CHIMERA_COMPILE_SECONDS";
/// What is kept of a child's last words.
const MAX_STDERR: u64 = 4 << 10;

/// What a guest may be made of; the engine is built with the same. Everything newer is refused before it is compiled.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

fn failure(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Permanent, codes::COMPILE, message)
}

/// Is it a component that may be compiled?
///
/// # Errors
/// A `compile-failed` failure that says what it is instead.
pub(crate) fn validate(wasm: &[u8]) -> Result<(), Failure> {
    let is_component = Parser::new(0)
        .parse_all(wasm)
        .next()
        .is_some_and(|first| matches!(first, Ok(Payload::Version { encoding: Encoding::Component, .. })));
    if !is_component {
        return Err(failure(
            "the bytes are not a WebAssembly component; a core module becomes one with `chimera skill build` or \
             `wasm-tools component new`",
        ));
    }
    Validator::new_with_features(FEATURES)
        .validate_all(wasm)
        .map(|_| ())
        .map_err(|e| failure(format!("the component is not valid: {}", printable(&truncated(e.to_string(), 500)))))
}

/// Compiles a validated component.
///
/// # Errors
/// A `compile-failed` failure when it does not compile within the limits; a transient one when the compiler itself could
/// not be run.
pub(crate) async fn compile(engine: &Engine, config: &SandboxConfig, wasm: Arc<[u8]>) -> Result<Vec<u8>, Failure> {
    let work = async {
        match &config.compiler {
            Compiler::InProcess => in_process(engine.clone(), wasm).await,
            Compiler::Child(program) => in_child(program, config, &wasm).await,
        }
    };
    let code = tokio::time::timeout(config.compile_time, work)
        .await
        .map_err(|_| failure(format!("compiling the component took more than {:?}", config.compile_time)))??;
    if code.len() as u64 > config.max_compiled_bytes {
        return Err(failure(format!("the compiled component is {} bytes: too large", code.len())));
    }
    Ok(code)
}

async fn in_process(engine: Engine, wasm: Arc<[u8]>) -> Result<Vec<u8>, Failure> {
    tokio::task::spawn_blocking(move || precompile(&engine, &wasm).map_err(failure))
        .await
        .map_err(|_| failure("the compiler gave up on the component"))?
}

fn precompile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, String> {
    engine.precompile_component(wasm).map_err(|e| printable(&truncated(format!("{e:#}"), 500)))
}

async fn in_child(program: &Path, config: &SandboxConfig, wasm: &[u8]) -> Result<Vec<u8>, Failure> {
    let unavailable = |what: &str, e: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Transient, codes::HOST, format!("the compiling process {what}: {e}"))
    };
    let mut child = tokio::process::Command::new(program)
        .arg("compile-component")
        .env_clear()
        .env(MEMORY_VARIABLE, config.compile_memory_bytes.to_string())
        .env(SECONDS_VARIABLE, cpu_seconds(config.compile_time).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| unavailable("cannot be started", &e))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(unavailable("cannot be spoken to", &"no pipes"));
    };
    let feed = async move {
        // A child that died early is found out by its exit status.
        let _ = stdin.write_all(wasm).await;
        drop(stdin);
    };
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let mut bounded_stdout = stdout.take(config.max_compiled_bytes + 1);
    let mut bounded_stderr = stderr.take(MAX_STDERR);
    let ((), read, _) =
        tokio::join!(feed, bounded_stdout.read_to_end(&mut code), bounded_stderr.read_to_end(&mut words));
    read.map_err(|e| unavailable("cannot be read", &e))?;
    // No longer read from here on: a child with more to say than allowed gets a broken pipe instead of waiting forever.
    drop((bounded_stdout, bounded_stderr));
    let status = child.wait().await.map_err(|e| unavailable("cannot be waited for", &e))?;
    if status.success() {
        return Ok(code);
    }
    let words = printable(String::from_utf8_lossy(&words).trim());
    Err(match status.code() {
        Some(_) => failure(format!("the component does not compile: {words}")),
        None => failure(format!("compiling the component was stopped at its limit on memory or time: {words}")),
    })
}

/// CPU time over all threads of the child.
fn cpu_seconds(wall: Duration) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    wall.as_secs().max(1).saturating_mul(threads)
}

/// The hidden subcommand `compile-component`: a component on stdin, its machine code on stdout. The limits on address
/// space and CPU time are set before the first byte is read.
pub fn compile_child_main() -> ExitCode {
    match compile_child() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compile_child() -> Result<(), String> {
    let defaults = SandboxConfig::default();
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let memory = variable(MEMORY_VARIABLE).unwrap_or(defaults.compile_memory_bytes);
    let seconds = variable(SECONDS_VARIABLE).unwrap_or_else(|| cpu_seconds(defaults.compile_time));
    for (resource, limit) in [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|e| format!("the limit on {resource:?} cannot be set: {e}"))?;
    }
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm).map_err(|e| format!("the component cannot be read: {e}"))?;
    validate(&wasm).map_err(|failure| failure.message)?;
    let engine = crate::engine::compiling().map_err(|e| e.to_string())?;
    let code = precompile(&engine, &wasm)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(|e| format!("the code cannot be written: {e}"))
}
