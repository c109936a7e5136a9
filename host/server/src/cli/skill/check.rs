//! `chimera skill test` and `chimera skill run`: a component in the sandbox, with recorded answers or with none.
//!
//! A run here belongs to no task and reaches nothing: what it asks the host for is denied. Called by the dispatcher.

use super::{Component, component, inspect, sandbox};
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::inputs::json_or_file;
use crate::cli::output::{Style, Table, bytes, count, millis, one_line, say, tell};
use chimera_core::clock::SystemClock;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::json::check_schema;
use chimera_core::manifest::{Manifest, World};
use chimera_core::ports::{Budget, HostPorts, LogLevel, ProgressPort};
use chimera_core::task::{Outcome, Usage};
use chimera_registry::run_selftests;
use chimera_sandbox::{RunEnd, RunRequest, Sandbox};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Runs the self-tests of a folder or a component.
pub(super) async fn test(env: &Env, what: &Path) -> CliResult {
    let sandbox = sandbox(env.config()?.sandbox_confinement.value)?;
    let component = component(env, what, &sandbox).await?;
    let (inspection, manifest) = inspect(&component)?;
    let prepared = sandbox
        .prepare(&Digest::of(&component.bytes), &component.bytes)
        .await
        .map_err(|failure| not_prepared(&failure))?;
    let results = run_selftests(&sandbox, &prepared, &manifest).await;
    let failed = results.iter().filter(|result| !result.is_passed()).count();
    let report = json!({ "skill": manifest.skill.name, "version": manifest.skill.version, "results": results,
        "passed": results.len() - failed, "failed": failed, "warnings": inspection.warnings });
    env.show(&report, |_| {
        let style = Style::stdout();
        let mut table = Table::new(&["SELF-TEST", "RESULT", "TIME", "FUEL", "MEMORY"]);
        for result in &results {
            let told = if result.is_passed() { "ok" } else { "failed" };
            let used = &result.usage;
            table.row([&result.name, told, &millis(used.wall_ms), &count(used.fuel), &bytes(used.peak_memory_bytes)]);
        }
        table.print("The skill has no self-tests. Add [[selftest]] to skill.toml: they are what admission runs.");
        for result in &results {
            if let Some(problem) = &result.problem {
                say(&format!("\n{} {}", style.red("failed:"), one_line(&result.name, 200)));
                say(&format!("  expected {}", one_line(&problem.expected, 1000)));
                say(&format!("  got      {}", one_line(&problem.got, 1000)));
            }
        }
        inspection.warnings.iter().for_each(|warning| say(&format!("warning: {}", one_line(warning, 400))));
        say(&format!("{} passed, {failed} failed", results.len() - failed));
    });
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// Runs a component once, with nothing granted.
pub(super) async fn run_once(env: &Env, what: &Path, input: &str) -> CliResult {
    let input = json_or_file(input, "input")?;
    let sandbox = sandbox(env.config()?.sandbox_confinement.value)?;
    let component = component(env, what, &sandbox).await?;
    let (outcome, usage) = run_component(&component, &sandbox, input).await?;
    show(env, &outcome, usage);
    Ok(Exit::Done)
}

/// Runs a component once and holds its input and output against its schemas.
pub(super) async fn run_component(
    component: &Component,
    sandbox: &Sandbox,
    input: Value,
) -> CliResult<(Outcome, Usage)> {
    let (_, manifest) = inspect(component)?;
    if manifest.skill.world == World::Judge {
        return Err(CliError::usage(
            format!("{} is a judge: it gives opinions on finished tasks and does none", component.path.display()),
            "run its self-tests with `chimera skill test`",
        ));
    }
    check_schema(&manifest.io.input, &input).map_err(|problem| {
        CliError::usage(
            format!("the input does not fit the skill's schema: {problem}"),
            "`chimera skill info FILE --json` shows the schema under manifest.io.input",
        )
    })?;
    let prepared = sandbox
        .prepare(&Digest::of(&component.bytes), &component.bytes)
        .await
        .map_err(|failure| not_prepared(&failure))?;
    let report = sandbox.run(&prepared, request(&manifest, input), ports()).await;
    match report.end {
        RunEnd::Finished(outcome) => {
            check_schema(&manifest.io.output, &outcome.output).map_err(|problem| {
                CliError::failed(
                    format!("the skill's output does not fit its own schema: {problem}"),
                    "mend the skill or the schema",
                )
            })?;
            Ok((outcome, report.usage))
        }
        RunEnd::Failed(failure) => Err(failed(&failure)),
        RunEnd::Suspended(_) => Err(CliError::refused(
            "the skill asked for something that waits for a human",
            "install it and run it in a campaign, where a human can answer",
        )),
        RunEnd::Diverged(divergence) => Err(CliError::failed(divergence.to_string(), "")),
    }
}

fn request(manifest: &Arc<Manifest>, input: Value) -> RunRequest {
    RunRequest {
        task_id: "run".to_owned(),
        campaign: None,
        input,
        limits: manifest.limits,
        manifest: manifest.clone(),
        deadline: Instant::now() + manifest.limits.time(),
        skill_calls: Budget::MAX_CALLS,
    }
}

fn ports() -> HostPorts {
    HostPorts { clock: Arc::new(SystemClock), progress: Arc::new(Told), seed: rand::random(), ..HostPorts::deny_all() }
}

/// Progress and logs to standard error.
struct Told;

impl ProgressPort for Told {
    fn report(&self, fraction: f64, message: &str) {
        tell(&format!("{:>3.0} % {}", fraction * 100.0, one_line(message, 256)));
    }

    fn log(&self, level: LogLevel, message: &str) {
        let level = json!(level);
        tell(&format!("{} {}", level.as_str().unwrap_or(""), one_line(message, 4096)));
    }
}

fn not_prepared(failure: &Failure) -> CliError {
    CliError::refused(format!("the component cannot be run: {}", failure.message), "see `chimera skill info FILE`")
}

fn failed(failure: &Failure) -> CliError {
    let what = format!("the skill failed: {failure}");
    match failure.kind {
        FailureKind::InvalidInput => CliError::usage(what, "change the input"),
        FailureKind::Denied | FailureKind::Security => {
            CliError::refused(what, "`skill run` grants nothing: install the skill and grant what it needs")
        }
        FailureKind::Transient | FailureKind::Permanent | FailureKind::Poison => CliError::failed(what, ""),
    }
}

pub(super) fn show(env: &Env, outcome: &Outcome, usage: Usage) {
    let report = json!({ "output": outcome.output, "confidence": outcome.confidence, "evidence": outcome.evidence, "usage": usage });
    env.show(&report, |_| {
        say(&crate::cli::output::pretty(&outcome.output));
        let style = Style::stderr();
        tell(&style.dim(&format!(
            "confidence {:.2}, {}, {} fuel, {} peak memory",
            outcome.confidence,
            millis(usage.wall_ms),
            count(usage.fuel),
            bytes(usage.peak_memory_bytes)
        )));
        outcome.evidence.iter().for_each(|reason| tell(&style.dim(&one_line(reason, 1024))));
    });
}
