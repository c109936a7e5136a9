//! `chimera bench store`: what the truth on PostgreSQL writes and reads a second, and how fast Redis answers.
//!
//! Held against the same rows as raw batched SQL and against pgbench, on the same server, in turn. It works in a database of
//! its own, which it makes and removes. Called by [`super::run`].

use super::Effort;
use super::report::Figure;
use super::tasks::{apart, median};
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use chimera_core::audit::Actor;
use chimera_core::campaign::new_task;
use chimera_core::change::{Change, Committed, Context, Durability, Write};
use chimera_core::clock::{Clock, SystemClock};
use chimera_core::digest::Digest;
use chimera_core::ids::{AgentId, LeaseId, SpecId, SystemIds};
use chimera_core::machine::{LeaseEnd, TaskEvent, transition};
use chimera_core::manifest::Limits;
use chimera_core::ports::Truth;
use chimera_core::skill::SkillRef;
use chimera_core::task::{Lease, Outcome, Task, TaskSpec};
use chimera_store::{PostgresFloor, RawRows};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Callers that each hand in a batch and wait for it.
const CALLERS: usize = 8;
/// Changes in a batch.
const BATCH: usize = 250;
/// Callers that each read one task after the other.
const READERS: usize = 256;
/// Clients that each commit one row after the other, ours as pgbench's.
const CLIENTS: usize = 32;
/// What durable transitions are held against.
const RAW_SQL: &str = "raw batched SQL, rows/s";
/// What single commits are held against.
const PGBENCH: &str = "pgbench, transactions/s";
/// A row of a task as it is when it has been judged, roughly in bytes.
const ROW: usize = 1_200;

pub(super) async fn run(url: Option<&str>, redis: Option<String>, effort: Effort) -> CliResult<Vec<Figure>> {
    let url = super::postgres_url(url)?;
    let floor = PostgresFloor::open(&url).await.map_err(failed)?;
    let measured = measure(&floor, effort).await;
    let removed = floor.remove().await.map_err(failed);
    let mut figures = measured?;
    removed?;
    match redis {
        Some(url) => figures.extend(super::redis::run(&url, effort).await?),
        None => tell("no Redis server, and so no figure of it: name one with --redis URL"),
    }
    Ok(figures)
}

async fn measure(floor: &PostgresFloor, effort: Effort) -> CliResult<Vec<Figure>> {
    let store = floor.store().await.map_err(failed)?;
    let truth: Arc<dyn Truth> = Arc::new(store.clone());
    tell("filling the table of tasks");
    let mut tasks = fill(&truth, CALLERS * effort.of(4, 16) * BATCH).await?;
    let ids: Arc<Vec<_>> = Arc::new(tasks.iter().map(|task| task.id).collect());
    prepare_pgbench(floor).await?;
    let (mut ours, mut raw, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    let (mut singles, mut theirs) = (Vec::new(), Vec::new());
    let span = Duration::from_secs(effort.of(2, 8));
    for round in 1..=effort.of(2, 5) {
        tell(&format!("round {round}"));
        let (rate, moved) = transitions(&truth, tasks).await?;
        tasks = moved;
        ours.push(rate);
        raw.push(raw_transitions(floor, &tasks).await?);
        reads.push(point_reads(&truth, &ids, span).await?);
        let (rate, moved) = single_commits(&truth, tasks, span).await?;
        tasks = moved;
        singles.push(rate);
        match pgbench(floor.url().to_owned(), span).await? {
            Ok(rate) => theirs.push(rate),
            Err(why) => tell(&format!("no pgbench, and so no ratio: {why}")),
        }
    }
    store.close().await;
    let mut figures = vec![
        Figure::against("transitions_per_s", median(&ours), "rows/s", median(&raw), RAW_SQL),
        Figure::alone("point_reads_per_s", median(&reads), "reads/s"),
        match theirs.is_empty() {
            true => Figure::alone("single_commits_per_s", median(&singles), "commits/s"),
            false => Figure::against("single_commits_per_s", median(&singles), "commits/s", median(&theirs), PGBENCH),
        },
    ];
    match test_fsync().await? {
        Ok(microseconds) => figures.push(Figure::alone("pg_test_fsync_fdatasync_us", microseconds, "us")),
        Err(why) => tell(&format!("pg_test_fsync says nothing: {why}")),
    }
    Ok(figures)
}

/// Makes so many queued tasks.
async fn fill(truth: &Arc<dyn Truth>, count: usize) -> CliResult<Vec<Task>> {
    let mut tasks = Vec::with_capacity(count);
    while tasks.len() < count {
        let cx = context();
        let mut changes = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let spec = TaskSpec {
                id: SpecId::new(cx.ids),
                goal: "measure".to_owned(),
                skill: skill(),
                input: json!({ "text": "hello" }),
                limits: Limits::default(),
                expect: None,
            };
            let outcome =
                Outcome { output: json!({ "text": "x".repeat(ROW / 2) }), confidence: 1.0, evidence: Vec::new() };
            let state = chimera_core::task::TaskState::Queued;
            let task = Task { spec_id: spec.id, state, outcome: Some(outcome), ..new_task(&cx) };
            let mut change = Change::new();
            change.write(Write::PutSpec(spec));
            change.write(Write::PutTask(task.clone()));
            changes.push(change);
            tasks.push(task);
        }
        applied(truth.commit_all(changes).await)?;
    }
    Ok(tasks)
}

/// Leases every task and takes every lease back: real transitions, each guarded by the task's revision, with its event in the
/// chain, and each on disk before its caller goes on. Rows a second: tasks, events and outbox. The tasks as they are then.
async fn transitions(truth: &Arc<dyn Truth>, tasks: Vec<Task>) -> CliResult<(f64, Vec<Task>)> {
    let started = Instant::now();
    let running: Vec<_> = tasks
        .chunks(tasks.len().div_ceil(CALLERS))
        .map(|part| {
            let (truth, part) = (truth.clone(), part.to_vec());
            tokio::spawn(async move {
                let (mut rows, mut moved) = (0, Vec::with_capacity(part.len()));
                for batch in part.chunks(BATCH) {
                    let mut batch = batch.to_vec();
                    for event in [leased as fn() -> TaskEvent, taken_back] {
                        let mut changes = Vec::with_capacity(batch.len());
                        for task in &mut batch {
                            let (next, mut change) =
                                transition(task, event(), &context()).map_err(|e| e.to_string())?;
                            change.durability = Durability::Now;
                            rows += change.writes.len() + change.audit.len();
                            *task = next;
                            changes.push(change);
                        }
                        applied(truth.commit_all(changes).await).map_err(|error| error.what)?;
                    }
                    moved.append(&mut batch);
                }
                Ok::<_, String>((rows, moved))
            })
        })
        .collect();
    let (mut rows, mut moved) = (0, Vec::with_capacity(tasks.len()));
    for part in running {
        let (written, mut part) = part.await.map_err(failed)?.map_err(failed)?;
        rows += written;
        moved.append(&mut part);
    }
    Ok((rows as f64 / started.elapsed().as_secs_f64(), moved))
}

/// As many rows of tasks and events by SQL alone; rows a second.
async fn raw_transitions(floor: &PostgresFloor, tasks: &[Task]) -> CliResult<f64> {
    let batches: Vec<RawRows> = tasks.chunks(500).map(RawRows::of).collect::<Result<_, _>>().map_err(failed)?;
    // The rows are written as the store has them last: nobody else finds a difference.
    let took = floor.write(&batches, 2).await.map_err(failed)?;
    Ok(2.0 * tasks.len() as f64 / took.as_secs_f64())
}

/// Single tasks by their ids; reads a second.
async fn point_reads(
    truth: &Arc<dyn Truth>,
    ids: &Arc<Vec<chimera_core::ids::TaskId>>,
    span: Duration,
) -> CliResult<f64> {
    let started = Instant::now();
    let running: Vec<_> = (0..READERS)
        .map(|reader| {
            let (truth, ids) = (truth.clone(), ids.clone());
            tokio::spawn(async move {
                let (mut reads, mut at) = (0_u64, reader * 7919);
                while started.elapsed() < span {
                    at = (at + 104_729) % ids.len();
                    match truth.task(ids[at]).await {
                        Ok(Some(_)) => reads += 1,
                        Ok(None) => return Err("a task is gone".to_owned()),
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Ok(reads)
            })
        })
        .collect();
    let mut reads = 0;
    for part in running {
        reads += part.await.map_err(failed)?.map_err(failed)?;
    }
    Ok(reads as f64 / started.elapsed().as_secs_f64())
}

/// Clients that each change one task's row, guarded, and wait for the disk; commits a second.
async fn single_commits(truth: &Arc<dyn Truth>, mut tasks: Vec<Task>, span: Duration) -> CliResult<(f64, Vec<Task>)> {
    let rest = tasks.split_off(CLIENTS.min(tasks.len()));
    let started = Instant::now();
    let running: Vec<_> = tasks
        .into_iter()
        .map(|mut task| {
            let truth = truth.clone();
            tokio::spawn(async move {
                let mut commits = 0_u64;
                while started.elapsed() < span {
                    let mut change = Change::new();
                    change.guard(chimera_core::change::Guard::TaskRev(task.id, task.rev));
                    task.rev += 1;
                    change.write(Write::PutTask(task.clone()));
                    applied(vec![truth.commit(change).await]).map_err(|error| error.what)?;
                    commits += 1;
                }
                Ok::<_, String>((commits, task))
            })
        })
        .collect();
    let (mut commits, mut moved) = (0, Vec::new());
    for part in running {
        let (made, task) = part.await.map_err(failed)?.map_err(failed)?;
        commits += made;
        moved.push(task);
    }
    let rate = commits as f64 / started.elapsed().as_secs_f64();
    moved.extend(rest);
    Ok((rate, moved))
}

async fn prepare_pgbench(floor: &PostgresFloor) -> CliResult<()> {
    let made = floor.run(
        "CREATE TABLE bench_rows (id BIGINT PRIMARY KEY, rev BIGINT NOT NULL, body TEXT NOT NULL);
         INSERT INTO bench_rows SELECT id, 0, repeat('x', 1200) FROM generate_series(1, 10000) AS id",
    );
    made.await.map_err(failed)
}

/// The same number of clients, each of which changes a row of the same size by its key, in a transaction of its own.
async fn pgbench(url: String, span: Duration) -> CliResult<Result<f64, String>> {
    apart(move || {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let script = folder.path().join("one_row.sql");
        let text = "\\set id random(1, 10000)\nUPDATE bench_rows SET rev = rev + 1, body = repeat('y', 1200) WHERE id = :id;\n";
        std::fs::write(&script, text).map_err(|error| error.to_string())?;
        let clients = CLIENTS.to_string();
        let output = tool("pgbench")
            .args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &span.as_secs().to_string(), "-f"])
            .arg(&script)
            .arg(&url)
            .output()
            .map_err(|error| format!("pgbench cannot be started: {error}"))?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = told.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        // Its errors may name the address, and with it a password.
        rate.ok_or_else(|| "it did not measure".to_owned())
    })
    .await
}

/// How long the disk takes, in microseconds.
async fn test_fsync() -> CliResult<Result<f64, String>> {
    apart(|| {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let output = tool("pg_test_fsync")
            .args(["-s", "1", "-f"])
            .arg(folder.path().join("file"))
            .output()
            .map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = told.lines().find(|line| line.trim_start().starts_with("fdatasync"));
        let found = line.and_then(|line| line.split_whitespace().rev().nth(1)?.parse().ok());
        found.ok_or_else(|| "nothing about fdatasync".to_owned())
    })
    .await
}

/// One of PostgreSQL's own programs, where distributions put them.
fn tool(name: &str) -> Command {
    let versions = (12..=20).rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")));
    Command::new(versions.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name)))
}

fn context() -> Context<'static> {
    Context { now: SystemClock.now(), ids: &SystemIds, actor: Actor::System, chance: 0.5 }
}

fn leased() -> TaskEvent {
    let until = SystemClock.now().plus(Lease::DURATION);
    TaskEvent::Leased { lease: Lease { id: LeaseId::new(&SystemIds), worker: AgentId::new(&SystemIds), until } }
}

fn taken_back() -> TaskEvent {
    TaskEvent::LeaseExpired { cause: LeaseEnd::HostStopped }
}

fn skill() -> SkillRef {
    let name = "bench/echo".parse().unwrap_or_else(|_| unreachable!("a skill's name"));
    SkillRef { name, version: semver::Version::new(1, 0, 0), digest: Digest::of(b"bench") }
}

fn applied(answers: Vec<Result<Committed, chimera_core::ports::PortError>>) -> CliResult<()> {
    for answer in answers {
        match answer {
            Ok(Committed::Applied) => {}
            Ok(Committed::Stale(guard)) => return Err(failed(format!("{guard:?} did not hold"))),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn failed(why: impl std::fmt::Display) -> CliError {
    CliError::failed(
        format!("the store cannot be measured: {why}"),
        "`cargo xtask services up` starts a server to measure",
    )
}
