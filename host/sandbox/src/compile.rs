//! Turns a stranger's bytes into machine code, within limits.
//!
//! Compiling hostile bytes may take any time and memory, and the compiler may have faults, so sizes are capped and the
//! bytes validated first, and for strangers it happens in a confined child process that can be killed. Nothing is run
//! here. Called when a component is prepared, and by the child itself ([`compile_child_main`]).

use crate::attempt::Attempt;
use crate::config::{Compiler, Confinement, SandboxConfig};
use crate::confine::{ChildLimits, confine};
use crate::features::served_features;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::text::{printable, truncated};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmparser::{Encoding, Parser, Payload, Validator};
use wasmtime::Engine;

/// Names of the environment variables that carry the child's limits, and what else it is told.
const MEMORY_VARIABLE: &str = "CHIMERA_COMPILE_MEMORY";
const SECONDS_VARIABLE: &str = "CHIMERA_COMPILE_SECONDS";
const CONFINEMENT_VARIABLE: &str = "CHIMERA_COMPILE_CONFINEMENT";
const ATTEMPT_VARIABLE: &str = "CHIMERA_COMPILE_ATTEMPT";
/// How many threads compile. Said here because a confined child cannot find out how many processors there are.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";
/// The exit code of a child that could not be confined and therefore read nothing.
const UNCONFINED: u8 = 77;
/// What is kept of a child's last words.
const MAX_STDERR: u64 = 4 << 10;

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
    Validator::new_with_features(served_features())
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
    let code = match &config.compiler {
        Compiler::InProcess => tokio::time::timeout(config.compile_time, in_process(engine.clone(), wasm))
            .await
            .map_err(|_| too_slow(config))??,
        Compiler::Child(program) => in_child(program, config, &wasm).await?,
    };
    if code.len() as u64 > config.max_compiled_bytes {
        return Err(failure(format!("the compiled component is {} bytes: too large", code.len())));
    }
    Ok(code)
}

fn too_slow(config: &SandboxConfig) -> Failure {
    failure(format!("compiling the component took more than {:?}", config.compile_time))
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
    match (ChildRun { program, config, attempt: None }).finish(wasm).await? {
        ChildEnd::Done(code) => Ok(code),
        ChildEnd::Refused(words) => Err(failure(format!("the component does not compile: {words}"))),
        ChildEnd::Stopped(words) => Err(failure(format!(
            "compiling the component was stopped at its limit on memory, or by a fault of the compiler: {words}"
        ))),
        ChildEnd::TooSlow => Err(too_slow(config)),
        ChildEnd::OutOfTime => {
            let limits = ChildLimits::of(config);
            Err(failure(format!("compiling the component took more than {}s of processor time", limits.cpu_seconds)))
        }
        ChildEnd::Forbidden => {
            let digest = Digest::of(wasm);
            tracing::warn!(%digest, "the kernel stopped the compiler at a forbidden call: the component may be an attack on it");
            Err(failure(
                "the kernel stopped the compiler at a system call that compiling never makes: the component may be an attack \
                 on the compiler, and must not be trusted anywhere else either",
            ))
        }
        ChildEnd::Unconfined(why) => Err(unavailable(
            "cannot be confined",
            &format_args!(
                "{why}; set `sandbox_confinement = \"limits-only\"` to compile with limits on memory and time alone, if you \
             trust every author whose skills you install"
            ),
        )),
    }
}

fn unavailable(what: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Transient, codes::HOST, format!("the compiling process {what}: {e}"))
}

/// One compiling child, from its start to its end.
pub(crate) struct ChildRun<'a> {
    pub(crate) program: &'a Path,
    pub(crate) config: &'a SandboxConfig,
    /// What it tries instead of compiling.
    pub(crate) attempt: Option<Attempt>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) enum ChildEnd {
    /// It wrote this.
    Done(Vec<u8>),
    /// It said no, with these words.
    Refused(String),
    /// The system stopped it at a limit.
    Stopped(String),
    /// It took too long and was killed.
    TooSlow,
    /// It computed for longer than it may, and the system stopped it.
    OutOfTime,
    /// The system stopped it at a call that it may not make.
    Forbidden,
    /// It could not be confined, and read nothing.
    Unconfined(String),
}

impl ChildRun<'_> {
    /// Starts the child, feeds it, and waits until it is gone: when this returns there is neither process nor zombie.
    ///
    /// # Errors
    /// A transient failure when there cannot be such a process.
    pub(crate) async fn finish(&self, wasm: &[u8]) -> Result<ChildEnd, Failure> {
        let (mut child, _parent) = self.spawn().await.map_err(|e| unavailable("cannot be started", &e))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let talk = tokio::time::timeout(self.config.compile_time, self.talk(&mut child, wasm)).await;
        // It is not reaped yet, so its number is still its own. A child that is done is unharmed.
        if let (Some(group), Err(_)) = (group, &talk) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let waited = match talk {
            Ok(_) => match tokio::time::timeout(self.config.compile_time, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    let _ = child.start_kill();
                    child.wait().await
                }
            },
            Err(_) => child.wait().await,
        };
        let status = waited.map_err(|e| unavailable("cannot be waited for", &e))?;
        match talk {
            Ok(talked) => {
                let (code, words) = talked.map_err(|e| unavailable("cannot be spoken to", &e))?;
                Ok(end(status, code, &words))
            }
            Err(_) => Ok(ChildEnd::TooSlow),
        }
    }

    /// The child dies with the thread that started it, so that thread lives as long as the child: it is one of its own,
    /// and ends when the second value is dropped.
    async fn spawn(&self) -> std::io::Result<(tokio::process::Child, std::sync::mpsc::Sender<()>)> {
        let limits = ChildLimits::of(self.config);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = tokio::process::Command::new(self.program);
        command
            .arg("compile-component")
            .env_clear()
            .env(MEMORY_VARIABLE, limits.memory.to_string())
            .env(SECONDS_VARIABLE, limits.cpu_seconds.to_string())
            .env(CONFINEMENT_VARIABLE, self.config.confinement.name())
            .env(THREADS_VARIABLE, threads.to_string())
            .envs(self.attempt.map(|attempt| (ATTEMPT_VARIABLE, attempt.name())))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let runtime = tokio::runtime::Handle::current();
        let (started, starting) = tokio::sync::oneshot::channel();
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("chimera-compile".to_owned()).stack_size(256 << 10).spawn(move || {
            let _inside = runtime.enter();
            let _ = started.send(command.spawn());
            // Ends with an error, when the other end is dropped.
            let _ = is_over.recv();
        })?;
        let child = starting.await.map_err(std::io::Error::other)??;
        Ok((child, over))
    }

    /// Feeds the child and hears it out.
    async fn talk(&self, child: &mut tokio::process::Child, wasm: &[u8]) -> std::io::Result<(Vec<u8>, String)> {
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(std::io::Error::other("it has no pipes"));
        };
        let feed = async move {
            // A child that died early is found out by its exit status.
            let _ = stdin.write_all(wasm).await;
            drop(stdin);
        };
        let (mut code, mut words) = (Vec::new(), Vec::new());
        let mut bounded_stdout = stdout.take(self.config.max_compiled_bytes + 1);
        let mut bounded_stderr = stderr.take(MAX_STDERR);
        let ((), read, _) =
            tokio::join!(feed, bounded_stdout.read_to_end(&mut code), bounded_stderr.read_to_end(&mut words));
        // The pipes close here: a child with more to say than allowed breaks on them instead of waiting forever.
        read?;
        Ok((code, printable(String::from_utf8_lossy(&words).trim())))
    }
}

fn end(status: ExitStatus, code: Vec<u8>, words: &str) -> ChildEnd {
    use std::os::unix::process::ExitStatusExt as _;
    let words = words.to_owned();
    match (status.code(), status.signal()) {
        (Some(0), _) => ChildEnd::Done(code),
        (Some(exit), _) if exit == i32::from(UNCONFINED) => ChildEnd::Unconfined(words),
        (Some(_), _) => ChildEnd::Refused(words),
        (None, Some(signal)) if signal == Signal::SYS.as_raw() => ChildEnd::Forbidden,
        (None, Some(signal)) if signal == Signal::XCPU.as_raw() => ChildEnd::OutOfTime,
        (None, _) => ChildEnd::Stopped(words),
    }
}

/// The hidden subcommand `compile-component`: a component on stdin, its machine code on stdout. The process is confined
/// before the first byte is read, and must have no other thread when this is called.
pub fn compile_child_main() -> ExitCode {
    confined_child(|| {
        let mut wasm = Vec::new();
        // The engine does not depend on the stranger's bytes; it is built first because it may look at the machine.
        let engine = crate::engine::compiling().map_err(|e| e.to_string())?;
        std::io::stdin().lock().read_to_end(&mut wasm).map_err(|e| format!("the component cannot be read: {e}"))?;
        validate(&wasm).map_err(|failure| failure.message)?;
        precompile(&engine, &wasm)
    })
}

/// Confines this process as one that compiles and then does something else in it. For tests of the walls.
#[doc(hidden)]
pub fn confined_child(work: impl FnOnce() -> Result<Vec<u8>, String>) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |name: &str| variable(name).and_then(|text| text.parse::<u64>().ok());
    let mut limits = ChildLimits::of(&SandboxConfig::default());
    limits.memory = number(MEMORY_VARIABLE).unwrap_or(limits.memory);
    limits.cpu_seconds = number(SECONDS_VARIABLE).unwrap_or(limits.cpu_seconds);
    let confinement = variable(CONFINEMENT_VARIABLE).and_then(|name| Confinement::parse(&name));
    if let Err(why) = confine(limits, confinement.unwrap_or(Confinement::Required)) {
        eprintln!("{why}");
        return ExitCode::from(UNCONFINED);
    }
    let result = match variable(ATTEMPT_VARIABLE).as_deref().map(Attempt::parse) {
        None => work(),
        Some(Some(attempt)) if attempt.succeeds() => Ok(b"done".to_vec()),
        Some(Some(_)) => Ok(b"refused".to_vec()),
        Some(None) => Err("no such attempt".to_owned()),
    };
    let written = result.and_then(|output| {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&output).and_then(|()| stdout.flush()).map_err(|e| format!("the code cannot be written: {e}"))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
