//! Skills that break one limit after another: each ends within its limit and a second with the right failure, the next
//! task runs normally, and the host's memory comes back.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

#[path = "../hostile/mod.rs"]
mod hostile;

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::{PATIENCE, Server, guest, is_timed};
use futures::StreamExt as _;
use hostile::health::Health;
use hostile::{Attack, Expected, attacks, bombs, build};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The guest's own limit in milliseconds, as its manifest says.
const TIME_LIMIT_MS: u64 = 3_000;
/// What planning, dispatch and hearing of the end may take besides on a busy machine.
const OVERHEAD: Duration = Duration::from_secs(2);
/// How much more memory the host may hold afterwards.
const MEMORY_SLACK: u64 = 64 << 20;

/// One test at a time: they measure.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
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

/// How often a task is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Gives a skill a task of its own and waits until that is final, or waits for a human or another attempt.
async fn run_task(server: &Server, skill: &str, input: Value) -> Result<Value> {
    let id = uuid::Uuid::now_v7();
    let spec = json!({ "skill": skill, "input": input });
    server.post("/assign_task", &json!({ "task_id": id, "spec": spec, "priority": 5, "deadline": null })).await?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let shown = server.get(&format!("/api/v1/tasks/{id}")).await?;
        let state = text(&shown["task"]["state"]);
        if !["pending", "queued", "running", "judging"].contains(&state.as_str()) {
            return Ok(shown["task"].clone());
        }
        tokio::time::sleep(LOOK).await;
    }
    anyhow::bail!("the task of {skill} did not end:\n{}", server.log_tail())
}

/// What became of an attack, in one line.
async fn carry_out(server: &Server, attack: &Attack) -> Result<String> {
    let bytes = attack.bytes()?;
    let started = Instant::now();
    let (status, answer) = offer(server, &bytes).await?;
    let offered = started.elapsed();
    let rule = text(&answer["rule"]);
    match attack.expected {
        Expected::Refused(rules) | Expected::Bounded(rules) if status == 422 => {
            ensure!(rules.contains(&rule.as_str()), "expected {rules:?}, found {answer:#}");
            return Ok(format!("refused by {rule} in {} ms", offered.as_millis()));
        }
        // What is larger than any component is not even read.
        Expected::Refused(rules) if status == 413 && rules.contains(&"size-limit") => {
            return Ok("refused before it was read".to_owned());
        }
        Expected::Refused(rules) => anyhow::bail!("expected {rules:?}, found {status} {answer:#}"),
        _ => {}
    }
    ensure!(status == 201, "it was not installed: {status} {answer:#}");
    for callee in &attack.granted {
        let grant = json!({ "skill": format!("hostile/{}", attack.name), "callee": callee });
        server.post("/api/v1/grants", &grant).await?;
    }
    let mut task = Value::Null;
    for _ in 0..attack.runs {
        task = run_task(server, &format!("hostile/{}", attack.name), json!({})).await?;
        check(attack, &task)?;
    }
    let failure = &task["failure"];
    let limit = failure["limit"]["name"].as_str().map(|name| format!(" at the limit on {name}")).unwrap_or_default();
    let code = failure["code"].as_str().unwrap_or("nothing");
    let (state, wall) = (text(&task["state"]), &task["usage"]["wall_ms"]);
    Ok(format!("{state} with {code}{limit} after {wall} ms, admitted in {} ms", offered.as_millis()))
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
        Expected::Harmless | Expected::Bounded(_) => state == "approved",
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

#[test]
fn every_file_of_an_attack_is_in_the_table() {
    let attacks = attacks();
    let names: std::collections::BTreeSet<&str> = attacks.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks.len(), "two attacks share a name");
    for entry in std::fs::read_dir(build::folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            let name = path.file_stem().unwrap().to_string_lossy();
            assert!(names.contains(&*name), "{name} is not in the table");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_contained_while_others_are_served() -> Result<()> {
    let _alone = ALONE.lock().await;
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
                (attack.name, end)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        over.store(true, Ordering::SeqCst);
        ends
    };
    let (ends, served) = tokio::join!(attacking, behave(&server, &over));
    let settled = Health::settle(server.pid(), &before).await;
    // What went wrong comes first: a report may be cut short.
    for (name, end) in &ends {
        if let Err(problem) = end {
            println!("{name:<28} NOT CONTAINED: {problem:#}");
        }
    }
    println!(
        "{number} attacks; tasks of the well-behaved skill meanwhile: {served:?}; held before: {before:?}; after: {settled:?}"
    );
    for (name, end) in &ends {
        if let Ok(told) = end {
            println!("{name:<28} {told}");
        }
    }
    let (served, (after, is_back)) = (served?, settled?);
    let failed: Vec<&str> = ends.iter().filter(|(_, end)| end.is_err()).map(|(name, _)| *name).collect();
    ensure!(failed.is_empty(), "not contained as expected: {failed:?}");
    ensure!(served > 0, "nobody was served meanwhile");
    ensure!(is_back, "the server did not give back what it took: {before:?}, then {after:?}");
    Ok(())
}

/// More large components than can be compiled in one round.
const LARGE_ONES: usize = 12;

/// The sandbox's tick: how often a guest that computes gives way.
const TICK: Duration = Duration::from_millis(10);

/// Tasks of the well-behaved skill, one after another with pauses, each timed from the request to the answer.
async fn timings(server: &Server, number: usize) -> Result<Vec<Duration>> {
    let mut taken = Vec::with_capacity(number);
    for _ in 0..number {
        let started = Instant::now();
        let task = run_task(server, "hostile/well-behaved", json!({})).await?;
        taken.push(started.elapsed());
        ensure!(task["state"] == "approved", "a task of the well-behaved skill failed: {task:#}");
        tokio::time::sleep(TICK).await;
    }
    taken.sort_unstable();
    Ok(taken)
}

/// One guest computes all the time.
async fn spin(server: Arc<Server>, over: Arc<AtomicBool>) -> Result<()> {
    while !over.load(Ordering::SeqCst) {
        let task = run_task(&server, "hostile/time-spin", json!({})).await?;
        ensure!(task["failure"]["code"] == "deadline-exceeded", "{task:#}");
    }
    Ok(())
}

/// One large component after another is compiled; ends with one of them. How many there were.
async fn compile(server: Arc<Server>, over: Arc<AtomicBool>, components: Vec<Vec<u8>>) -> Result<usize> {
    let mut compiled = 0;
    for bytes in components {
        let (status, answer) = server.offer(bytes).await?;
        ensure!(status == 201, "{status} {answer:#}");
        compiled += 1;
        if over.load(Ordering::SeqCst) {
            return Ok(compiled);
        }
    }
    anyhow::bail!("all {compiled} were compiled before the time was over: make more")
}

/// Large components, each another one. Made beforehand, because the machine is not to be busy with anything else then.
fn large_components(round: usize) -> Result<Vec<Vec<u8>>> {
    let made = (0..LARGE_ONES).map(|number| {
        let number = round * LARGE_ONES + number;
        let mut bytes = bombs::large(number)?;
        let manifest = build::manifest(&format!("large-{number}"), &json!({}), &json!({}));
        build::embed(&mut bytes, manifest.to_string().as_bytes());
        Ok(bytes)
    });
    made.collect()
}

/// How long the tasks took in peace and beside the two, each in its order of length, and how much was compiled meanwhile.
struct Heard {
    quiet: Vec<Duration>,
    loud: Vec<Duration>,
    compiled: usize,
}

/// The moment by which this share was done.
fn by(of: &[Duration], share: f64) -> Duration {
    of[((of.len() as f64 * share) as usize).min(of.len() - 1)]
}

/// Peace and noise in turns, so that whatever else the machine does meanwhile falls on both.
async fn listen(data: &Path, rounds: usize, number: usize) -> Result<Heard> {
    let server = Arc::new(Server::start_with(data, &[("CHIMERA_WORKERS", WORKERS)]).await?);
    install_well_behaved(&server).await?;
    let spinner = attacks().into_iter().find(|attack| attack.name == "time-spin").context("no spinner")?;
    server.offer(spinner.bytes()?).await?;
    timings(&server, number).await?;
    let mut heard = Heard { quiet: Vec::new(), loud: Vec::new(), compiled: 0 };
    for round in 0..rounds {
        let components = large_components(round)?;
        heard.quiet.extend(timings(&server, number).await?);
        let over = Arc::new(AtomicBool::new(false));
        let spinning = tokio::spawn(spin(server.clone(), over.clone()));
        let compiling = tokio::spawn(compile(server.clone(), over.clone(), components));
        let under_load = timings(&server, number).await;
        over.store(true, Ordering::SeqCst);
        let (spun, compiled) = tokio::join!(spinning, compiling);
        spun??;
        heard.compiled += compiled??;
        heard.loud.extend(under_load?);
    }
    heard.quiet.sort_unstable();
    heard.loud.sort_unstable();
    Ok(heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_behaves_hardly_notices_one_that_spins_and_one_that_compiles() -> Result<()> {
    let _alone = ALONE.lock().await;
    let (rounds, number) = if is_timed() { (10, 100) } else { (1, 15) };
    let mut folders = vec![("on disk", tempfile::tempdir()?)];
    // Where nothing waits for a disk, whose own moments are as long as what is measured.
    if is_timed() && Path::new("/dev/shm").is_dir() {
        folders.insert(0, ("in memory", tempfile::tempdir_in("/dev/shm")?));
    }
    println!("{:<12}{:>12}{:>12}{:>12}{:>12}   ms", "data", "quiet p50", "quiet p99", "loud p50", "loud p99");
    let mut broken = Vec::new();
    for (place, folder) in &folders {
        let Heard { quiet, loud, compiled } = listen(folder.path(), rounds, number).await?;
        let ms = |of: &[Duration], share: f64| by(of, share).as_secs_f64() * 1e3;
        let figures = [ms(&quiet, 0.5), ms(&quiet, 0.99), ms(&loud, 0.5), ms(&loud, 0.99)];
        let [quiet_p50, quiet_p99, loud_p50, loud_p99] = figures;
        println!(
            "{place:<12}{quiet_p50:>12.1}{quiet_p99:>12.1}{loud_p50:>12.1}{loud_p99:>12.1}   beside {compiled} compilations"
        );
        let most = quiet_p99 + 2.0 * TICK.as_secs_f64() * 1e3;
        if loud_p99 > most {
            broken
                .push(format!("data {place}: p99 {quiet_p99:.1} ms in peace became {loud_p99:.1}; at most {most:.1}"));
        }
    }
    ensure!(!is_timed() || broken.is_empty(), "{broken:?}");
    Ok(())
}
