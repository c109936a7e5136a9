//! Skills that break one limit after another: each ends within its limit and a second with the right failure, the next
//! task runs normally, and the host's memory comes back.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::{Server, guest};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The guest's own limit in milliseconds, as its manifest says.
const TIME_LIMIT_MS: u64 = 3_000;
/// What planning, dispatch and hearing of the end may take besides on a busy machine.
const OVERHEAD: Duration = Duration::from_secs(2);
/// How much more memory the host may hold afterwards.
const MEMORY_SLACK: u64 = 64 << 20;

/// A mode, and how its task must end: state, failure kind, one of these codes.
const MODES: [(&str, &str, &str, &[&str]); 13] = [
    ("endless-loop", "failed", "permanent", &["deadline-exceeded", "fuel-exhausted"]),
    ("memory-bomb", "failed", "permanent", &["memory-limit"]),
    ("sleep-an-hour", "failed", "permanent", &["deadline-exceeded"]),
    // Filling 400 MB takes the guest most of its time: on a busy machine that is over first.
    ("huge-result", "failed", "permanent", &["output-too-large", "deadline-exceeded"]),
    // No manifest may ask for the memory that a result of a gigabyte needs.
    ("gigabyte-result", "failed", "permanent", &["memory-limit"]),
    ("deep-recursion", "failed", "permanent", &["trap"]),
    ("trap", "failed", "permanent", &["trap"]),
    ("invalid-json", "failed", "permanent", &["output-invalid"]),
    ("wrong-schema", "failed", "permanent", &["output-invalid"]),
    ("nan-confidence", "failed", "permanent", &["confidence-invalid"]),
    ("ungranted-tool", "awaiting_approval", "denied", &["not-granted"]),
    ("log-a-gigabyte", "approved", "", &[]),
    ("print-a-gigabyte", "approved", "", &[]),
];

/// Runs one mode as a campaign of one step and gives its task, once that is final or waits for a human.
async fn run(server: &Server, mode: &str) -> Result<Value> {
    let body = json!({
        "title": mode,
        "goal": format!("Misbehave: {mode}"),
        "steps": [{ "id": "misbehave", "skill": "hostile/misbehave", "input": { "mode": mode } }],
    });
    let made = server.post("/api/v1/campaigns", &body).await?;
    let id = made["id"].as_str().or(made["campaign"]["id"].as_str()).unwrap().to_owned();
    server
        .until(&format!("/api/v1/tasks?campaign={id}"), &format!("the task of {mode}"), |tasks| {
            let task = list(tasks).into_iter().next()?;
            let state = text(&task["state"]);
            matches!(state.as_str(), "approved" | "failed" | "rejected" | "awaiting_approval").then_some(task)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hostile_skill_ends_within_its_limit_and_harms_nobody() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install(&guest("misbehave")).await?;
    for _ in 0..3 {
        let task = run(&server, "behave").await?;
        ensure!(task["state"] == "approved", "the well-behaved run failed: {task:#}");
    }
    let before = server.resident();
    for (mode, state, kind, codes) in MODES {
        let started = Instant::now();
        let task = run(&server, mode).await?;
        let seen = started.elapsed();
        let failure = &task["failure"];
        // What a gigabyte of log costs in time depends on the machine; both ends are within the rules.
        let is_slow_log = mode.ends_with("a-gigabyte") && failure["code"] == "deadline-exceeded";
        if !is_slow_log {
            ensure!(task["state"] == state, "{mode}: expected {state}: {task:#}");
            if !kind.is_empty() {
                ensure!(failure["kind"] == kind, "{mode}: expected {kind}: {failure:#}");
                ensure!(codes.iter().any(|code| failure["code"] == *code), "{mode}: expected {codes:?}: {failure:#}");
            }
        }
        let wall = task["usage"]["wall_ms"].as_u64().unwrap();
        ensure!(wall <= TIME_LIMIT_MS + 1_000, "{mode} took {wall} ms");
        // What the host says of itself is held against a clock outside it, which planning and dispatch count on as well.
        ensure!(
            seen <= Duration::from_millis(TIME_LIMIT_MS + 1_000) + OVERHEAD,
            "{mode} took {seen:?}, {wall} ms it says"
        );
        println!(
            "{mode}: {} {} after {wall} ms ({} ms from outside), {} MiB resident",
            task["state"],
            failure["code"],
            seen.as_millis(),
            server.resident() >> 20
        );
        let next = run(&server, "behave").await?;
        ensure!(next["state"] == "approved", "after {mode} the next task failed: {next:#}");
    }
    let after = server.resident();
    ensure!(after <= before + MEMORY_SLACK, "memory grew from {} to {} MiB", before >> 20, after >> 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reaching_beyond_the_manifest_suspends_the_version() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install(&guest("misbehave")).await?;
    let task = run(&server, "undeclared-tool").await?;
    ensure!(task["state"] == "awaiting_approval", "{task:#}");
    ensure!(task["failure"]["kind"] == "security", "{task:#}");
    let skill = server.get("/api/v1/skills/hostile/misbehave").await?;
    ensure!(skill.to_string().contains("\"suspended\""), "the version is not suspended: {skill:#}");
    Ok(())
}
