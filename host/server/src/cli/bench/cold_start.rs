//! How long a new process takes to a skill's first answer, with the machine code in the disk cache.
//!
//! Each sample is a process of its own ([`child`]): it builds a sandbox, prepares a component that it has never seen (found
//! in the cache, verified, loaded) and runs it once to its outcome, with every limit on. Two figures count: `cold_start`
//! is from the built sandbox to the outcome, `with_sandbox` adds building it; `process` is the whole process as its parent
//! sees it, from `exec` to its end. The files are in the system's page cache; the disk is not measured. Called by `bench
//! sandbox`.

use crate::cli::args::ColdStartArgs;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use chimera_core::digest::Digest;
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::ports::{Budget, HostPorts};
use chimera_registry::MAX_COMPONENT_BYTES;
use chimera_sandbox::{Compiler, RunEnd, RunRequest, Sandbox, SandboxConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A skill to be started cold. It must answer its input without reaching anything.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// The language it was written in, as results name it.
    pub(crate) language: String,
    /// The component.
    pub(crate) component: PathBuf,
    /// What it is given.
    pub(crate) input: Value,
}

/// What was measured of one guest; times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ColdStart {
    pub(crate) language: String,
    pub(crate) component_bytes: usize,
    pub(crate) samples: usize,
    /// From the built sandbox to the outcome.
    pub(crate) cold_start_ms: Spread,
    /// The same, and building the sandbox.
    pub(crate) with_sandbox_ms: Spread,
    /// The whole process.
    pub(crate) process_ms: Spread,
    /// Of `cold_start_ms`, the part that finds, verifies and loads the machine code.
    pub(crate) prepare_ms: Spread,
    /// Of `cold_start_ms`, the first run.
    pub(crate) run_ms: Spread,
}

/// How samples are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
}

impl Spread {
    /// Of at least one sample; ranks are the nearest ones.
    fn of(samples: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: usize| {
            let at = (sorted.len() * share).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().unwrap_or(f64::NAN)
        };
        Self { min: rank(0), p50: rank(50), p95: rank(95) }
    }
}

/// What one process says of itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sample {
    sandbox_ms: f64,
    prepare_ms: f64,
    run_ms: f64,
}

/// Measures each guest in `samples` processes of its own.
///
/// # Errors
/// A guest that cannot be compiled, or did not finish; a child that could not be started.
pub(crate) async fn measure(guests: &[Guest], samples: usize) -> CliResult<Vec<ColdStart>> {
    let program = crate::executable::this_program().map_err(|error| {
        CliError::failed(format!("this program cannot find itself: {error}"), "start it by its full path")
    })?;
    let cache = tempfile::tempdir().map_err(|error| {
        CliError::failed(format!("no temporary folder can be made: {error}"), "set TMPDIR to a folder with room")
    })?;
    let mut measured = Vec::with_capacity(guests.len());
    for guest in guests {
        let wasm = read_capped(&guest.component, MAX_COMPONENT_BYTES as u64)?;
        let digest = Digest::of(&wasm);
        fill(cache.path(), &program, &digest, &wasm).await?;
        let mut all = Vec::with_capacity(samples);
        // One more that does not count: it brings the files into memory.
        for _ in 0..=samples.max(1) {
            all.push(sample(&program, cache.path(), &digest, guest).await?);
        }
        all.remove(0);
        let spread = |of: fn(&(Sample, f64)) -> f64| Spread::of(all.iter().map(of));
        measured.push(ColdStart {
            language: guest.language.clone(),
            component_bytes: wasm.len(),
            samples: all.len(),
            cold_start_ms: spread(|(sample, _)| sample.prepare_ms + sample.run_ms),
            with_sandbox_ms: spread(|(sample, _)| sample.sandbox_ms + sample.prepare_ms + sample.run_ms),
            process_ms: spread(|(_, process)| *process),
            prepare_ms: spread(|(sample, _)| sample.prepare_ms),
            run_ms: spread(|(sample, _)| sample.run_ms),
        });
    }
    Ok(measured)
}

/// Compiles the component into the cache.
async fn fill(cache: &Path, program: &Path, digest: &Digest, wasm: &[u8]) -> CliResult<()> {
    let config = SandboxConfig {
        cache_dir: Some(cache.to_owned()),
        compiler: Compiler::Child(program.to_owned()),
        ..SandboxConfig::default()
    };
    let sandbox = Sandbox::new(config).map_err(|error| CliError::failed(error.message, "see `chimera doctor`"))?;
    sandbox
        .prepare(digest, wasm)
        .await
        .map(drop)
        .map_err(|failure| CliError::failed(failure.to_string(), "build the component with current tools"))
}

async fn sample(program: &Path, cache: &Path, digest: &Digest, guest: &Guest) -> CliResult<(Sample, f64)> {
    let start = Instant::now();
    let output = tokio::process::Command::new(program)
        .arg("cold-start")
        .arg(cache)
        .arg(digest.to_string())
        .arg(guest.input.to_string())
        .output()
        .await;
    let process = millis(start.elapsed());
    let failed =
        |why: String| CliError::failed(format!("the cold start of {} failed: {why}", guest.component.display()), "");
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let sample = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    Ok((sample, process))
}

/// The hidden subcommand `cold-start`: one cold start in this process, told as JSON.
pub(crate) fn child(args: &ColdStartArgs) -> ExitCode {
    match cold_start(args) {
        Ok(sample) => {
            println!("{}", json!(sample));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn cold_start(args: &ColdStartArgs) -> Result<Sample, String> {
    let digest = args.digest.parse::<Digest>().map_err(|error| error.to_string())?;
    let input: Value = serde_json::from_str(&args.input).map_err(|error| error.to_string())?;
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": "bench/cold", "version": "0.1.0", "summary": "is started", "license": "MIT", "effects": "none" },
        "io": { "input": {}, "output": {} },
        "capabilities": {},
    }))
    .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no threads could be started: {error}"))?;
    runtime.block_on(async {
        let start = Instant::now();
        let config = SandboxConfig { cache_dir: Some(args.cache.clone()), ..SandboxConfig::default() };
        // On a thread for blocking work, as the server does.
        let building = tokio::task::spawn_blocking(move || Sandbox::new(config)).await;
        let sandbox = building.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        let built = start.elapsed();
        let prepared = sandbox.prepare_cached(&digest).await.ok_or("it is not in the cache")?;
        let loaded = start.elapsed();
        let request = RunRequest {
            task_id: "cold".to_owned(),
            campaign: None,
            input,
            limits: Limits::MAX,
            manifest: Arc::new(manifest),
            deadline: Instant::now() + Duration::from_secs(60),
            skill_calls: Budget::MAX_CALLS,
        };
        let report = sandbox.run(&prepared, request, HostPorts::deny_all()).await;
        let answered = start.elapsed();
        match report.end {
            RunEnd::Finished(_) => Ok(Sample {
                sandbox_ms: millis(built),
                prepare_ms: millis(loaded - built),
                run_ms: millis(answered - loaded),
            }),
            other => Err(format!("it did not finish: {other:?}")),
        }
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_takes_the_nearest_ranks() {
        let spread = Spread::of((1..=100).rev().map(f64::from));
        assert_eq!(spread, Spread { min: 1.0, p50: 50.0, p95: 95.0 });
        assert_eq!(Spread::of([3.0].into_iter()), Spread { min: 3.0, p50: 3.0, p95: 3.0 });
    }
}
