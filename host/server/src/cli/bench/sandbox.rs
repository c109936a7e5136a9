//! `chimera bench sandbox`: what a run costs over the bare engine.
//!
//! Calls of an echo, of a Python and of a JavaScript skill; cold starts in new processes; skills parked in a host call;
//! two threads against one. Called by [`super::run`].

use super::Effort;
use super::calls::Callee;
use super::cold_start;
use super::guests::{self, Guest};
use super::parked;
use super::report::Figure;
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use chimera_sandbox::{Sandbox, SandboxConfig};
use serde_json::json;
use std::time::Duration;

/// What bare figures are of.
const BARE: &str = "bare wasmtime";

pub(super) async fn run(env: &Env, effort: Effort) -> CliResult<Vec<Figure>> {
    let echo = guests::built(env, "echo", json!({ "text": "hello" })).await?;
    let waiter = guests::built(env, "waiter", json!({ "number": 0 })).await?;
    let others = guests::in_other_languages();
    let mut figures = calls(effort, &echo, &others).await?;
    tell("parking skills");
    let parked = parked::measure(&waiter, effort.of(1_000, 10_000)).await?;
    figures.push(Figure::against("parked_kib", parked.whole_kib, "KiB", parked.bare_kib, BARE));
    figures.push(Figure::alone("parked_and_answered", parked.count as f64, "skills"));
    let mut cold = vec![echo];
    cold.extend(others);
    figures.extend(cold_starts(effort, cold).await?);
    Ok(figures)
}

/// Calls and scaling. They come first: what is measured after them has no say in their memory.
async fn calls(effort: Effort, echo: &Guest, others: &[Guest]) -> CliResult<Vec<Figure>> {
    let sandbox = Sandbox::new(SandboxConfig::default())
        .map_err(|error| CliError::failed(error.to_string(), "see `chimera doctor`"))?;
    tell("calling the echo");
    let callee = Callee::new(echo.clone(), &sandbox).await?;
    let (bare, whole) = callee.times(effort.of(20_000, 200_000)).await?;
    let mut figures = vec![Figure::against("call_p50_us", whole.percentile(50), "us", bare.percentile(50), BARE)];
    figures.push(Figure::against("call_p99_us", whole.percentile(99), "us", bare.percentile(99), BARE));
    for percent in [50, 99] {
        let added = whole.percentile(percent) - bare.percentile(percent);
        figures.push(Figure::alone(format!("call_added_p{percent}_us"), added, "us"));
    }
    tell("calling it from two threads");
    let (bare, whole) = callee.scaling(effort.of(30, 100), Duration::from_millis(effort.of(50, 100))).await?;
    figures.push(Figure::against("scaling_2_threads", whole, "x", bare, BARE));
    for guest in others {
        tell(&format!("calling the {} skill", guest.language));
        let callee = match Callee::new(guest.clone(), &sandbox).await {
            Ok(callee) => callee,
            Err(error) => {
                tell(&format!("not measured: {}", error.what));
                continue;
            }
        };
        let (bare, whole) = callee.times(effort.of(500, 5_000)).await?;
        let metric = format!("call_p50_us_{}", guest.language);
        figures.push(Figure::against(metric, whole.percentile(50), "us", bare.percentile(50), BARE));
    }
    Ok(figures)
}

async fn cold_starts(effort: Effort, guests: Vec<Guest>) -> CliResult<Vec<Figure>> {
    tell("starting cold in new processes");
    let guests: Vec<cold_start::Guest> = guests
        .into_iter()
        .map(|guest| cold_start::Guest {
            language: guest.language.to_owned(),
            component: guest.component,
            input: guest.input,
        })
        .collect();
    let mut figures = Vec::new();
    for guest in guests {
        let found = match cold_start::measure(std::slice::from_ref(&guest), effort.of(20, 100)).await {
            Ok(mut found) => found.remove(0),
            Err(error) if guest.language != "rust" => {
                tell(&format!("not measured: {}", error.what));
                continue;
            }
            Err(error) => return Err(error),
        };
        let language = &found.language;
        figures.push(Figure::alone(format!("cold_start_ms_{language}"), found.cold_start_ms.p50, "ms"));
        figures.push(Figure::alone(format!("cold_start_p95_ms_{language}"), found.cold_start_ms.p95, "ms"));
        figures.push(Figure::alone(format!("cold_start_prepare_ms_{language}"), found.prepare_ms.p50, "ms"));
        figures.push(Figure::alone(format!("cold_start_with_sandbox_ms_{language}"), found.with_sandbox_ms.p50, "ms"));
        figures.push(Figure::alone(format!("cold_start_process_ms_{language}"), found.process_ms.p50, "ms"));
    }
    Ok(figures)
}
