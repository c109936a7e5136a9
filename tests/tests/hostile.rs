//! Skills that break one limit after another: each ends within its limit and a second with the right failure, the next
//! task runs normally, and the host's memory comes back.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

#[path = "../hostile/mod.rs"]
mod hostile;

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::{Server, guest};
use futures::StreamExt as _;
use hostile::health::Health;
use hostile::{Attack, Expected, attacks, build};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Attacks at once. The clock ends some of them, so more would only wait for each other.
const AT_ONCE: usize = 4;
/// Tasks at once: the attacks, and the well-behaved skill.
const WORKERS: &str = "8";
/// The skill that does what it should all the while: it returns its input.
const WELL_BEHAVED: &str = "(run (call $ok (local.get $input) (local.get $input_len) (f64.const 1)))";

/// Offers a component again while the server says that it has others to look at.
async fn offer(server: &Server, bytes: &[u8]) -> Result<(u16, Value)> {
    loop {
        let (status, answer) = server.offer(bytes.to_vec()).await?;
        if status != 503 {
            return Ok((status, answer));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn install_well_behaved(server: &Server) -> Result<()> {
    let mut bytes = build::component(WELL_BEHAVED)?;
    let limits = json!({ "time_ms": 10_000, "memory_mb": 16 });
    build::embed(&mut bytes, build::manifest("well-behaved", &json!({}), &limits).to_string().as_bytes());
    let (status, answer) = server.offer(bytes).await?;
    ensure!(status == 201, "the well-behaved skill was not installed: {status} {answer}");
    Ok(())
}

/// Gives a skill a task of its own and waits until that is final, or waits for a human or another attempt.
async fn run_task(server: &Server, skill: &str, input: Value) -> Result<Value> {
    let id = uuid::Uuid::now_v7();
    let spec = json!({ "skill": skill, "input": input });
    server.post("/assign_task", &json!({ "task_id": id, "spec": spec, "priority": 5, "deadline": null })).await?;
    server
        .until(&format!("/api/v1/tasks/{id}"), &format!("the task of {skill}"), |shown| {
            let state = text(&shown["task"]["state"]);
            let is_waited_for = ["pending", "queued", "running", "judging"].contains(&state.as_str());
            (!is_waited_for).then(|| shown["task"].clone())
        })
        .await
}

/// What became of an attack, in one line.
async fn carry_out(server: &Server, attack: &Attack) -> Result<String> {
    let started = Instant::now();
    let (status, answer) = offer(server, &attack.bytes()?).await?;
    let offered = started.elapsed();
    if let Expected::Refused(rules) = attack.expected {
        let rule = text(&answer["rule"]);
        ensure!(status == 422 && rules.contains(&rule.as_str()), "expected {rules:?}, found {status} {answer:#}");
        return Ok(format!("refused by {rule} in {} ms", offered.as_millis()));
    }
    ensure!(status == 201, "it was not installed: {status} {answer:#}");
    let mut task = Value::Null;
    for _ in 0..attack.runs {
        task = run_task(server, &format!("hostile/{}", attack.name), json!({})).await?;
        check(attack, &task)?;
    }
    let failure = &task["failure"];
    let limit = failure["limit"]["name"].as_str().map(|name| format!(" at the limit on {name}")).unwrap_or_default();
    let code = failure["code"].as_str().unwrap_or("nothing");
    Ok(format!("{} with {code}{limit} after {} ms", text(&task["state"]), task["usage"]["wall_ms"]))
}

fn check(attack: &Attack, task: &Value) -> Result<()> {
    let (state, failure) = (text(&task["state"]), &task["failure"]);
    let fits = match &attack.expected {
        Expected::Refused(_) => false,
        Expected::Failed { kind, codes, limit } => {
            state == "failed"
                && failure["kind"] == *kind
                && (codes.is_empty() || codes.iter().any(|code| failure["code"] == *code))
                && limit.is_none_or(|limit| failure["limit"]["name"] == limit)
        }
        Expected::Asked { kind, code } => {
            state == "awaiting_approval" && failure["kind"] == *kind && failure["code"] == *code
        }
        // A moment in half a billion years could not be written, so this one is near.
        Expected::Retried => state == "retry_wait" && failure["kind"] == "transient",
        Expected::Harmless => state == "approved",
        Expected::Slow => state == "approved" || failure["code"] == "deadline-exceeded",
    };
    ensure!(fits, "expected {:?}, found {state} {failure:#}", attack.expected);
    let (limit, wall) = (attack.limits["time_ms"].as_u64(), task["usage"]["wall_ms"].as_u64());
    let (limit, wall) = (limit.context("no limit")?, wall.context("no time was taken")?);
    ensure!(wall <= limit + 1_000, "it took {wall} ms, with a limit of {limit} ms");
    Ok(())
}

/// The well-behaved skill, again and again until the attacks are over: the number of its tasks, all of which went well.
async fn behave(server: &Server, over: &AtomicBool) -> Result<u64> {
    let mut done = 0;
    while !over.load(Ordering::SeqCst) {
        let input = json!({ "number": done });
        let task = run_task(server, "hostile/well-behaved", input).await?;
        ensure!(task["state"] == "approved", "a task of the well-behaved skill failed: {task:#}");
        done += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_contained_while_others_are_served() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start_with(data.path(), &[("CHIMERA_WORKERS", WORKERS)]).await?;
    install_well_behaved(&server).await?;
    let over = AtomicBool::new(true);
    // As many connections as there will be, and every thread that is ever needed.
    for _ in 0..5 {
        let tasks = (0..AT_ONCE + 2).map(|_| run_task(&server, "hostile/well-behaved", json!({})));
        futures::future::try_join_all(tasks).await?;
    }
    let before = Health::of(server.pid())?;
    over.store(false, Ordering::SeqCst);
    let only = std::env::var("CHIMERA_ATTACK").ok();
    let chosen: Vec<Attack> =
        attacks().into_iter().filter(|attack| only.as_ref().is_none_or(|only| attack.name.contains(only))).collect();
    let number = chosen.len();
    let attacking = async {
        let ends: Vec<(&str, Result<String>)> = futures::stream::iter(&chosen)
            .map(|attack| async {
                let end = carry_out(&server, attack).await;
                match &end {
                    Ok(told) => println!("{:<28} {told}", attack.name),
                    Err(problem) => println!("{:<28} NOT CONTAINED: {problem:#}", attack.name),
                }
                (attack.name, end)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        over.store(true, Ordering::SeqCst);
        ends
    };
    let (ends, served) = tokio::join!(attacking, behave(&server, &over));
    let served = served?;
    let (after, is_back) = Health::settle(server.pid(), &before).await?;
    println!(
        "{number} attacks, {served} tasks of the well-behaved skill meanwhile, all well; {before:?}, then {after:?}"
    );
    let failed: Vec<&str> = ends.iter().filter(|(_, end)| end.is_err()).map(|(name, _)| *name).collect();
    ensure!(failed.is_empty(), "not contained as expected: {failed:?}");
    ensure!(is_back, "the server did not give back what it took: {before:?}, then {after:?}");
    Ok(())
}
