//! Faults among several processes on one PostgreSQL: whatever is killed, stopped or cut off, no task is lost, none is
//! accepted twice, nothing is published twice, and the audit chains hold.
//!
//! A few hundred tasks a scenario; `cargo xtask test --full` has 10,000.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::fleet::{Database, Fleet};
use chimera_tests::postgres::Postgres;
use chimera_tests::redis::Redis;
use chimera_tests::{guest, is_full};
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

#[path = "fleet_faults/clock.rs"]
mod clock;
#[path = "fleet_faults/disk.rs"]
mod disk;
#[path = "fleet_faults/network.rs"]
mod network;
#[path = "fleet_faults/weaviate.rs"]
mod weaviate;

const SKILL: &str = "hostile/misbehave";
const PROCESSES: [(&str, &str); 5] =
    [("api", "api"), ("planner", "planner"), ("judge", "judge"), ("worker-a", "worker"), ("worker-b", "worker")];

/// Tasks of a scenario.
fn tasks() -> usize {
    if is_full() { 10_000 } else { 300 }
}

/// One process a role and two workers, with the skill that behaves if it is told to.
async fn fleet() -> Result<Fleet> {
    fleet_on(Database::create().await?).await
}

async fn fleet_on(database: Database) -> Result<Fleet> {
    start(Fleet::create_on(database)?).await
}

/// With the queue, and whatever else passes, on this Redis.
async fn fleet_with(redis: &Redis, backup: Option<&Redis>) -> Result<Fleet> {
    let mut fleet = Fleet::create().await?;
    fleet.set("CHIMERA_REDIS", &redis.url());
    if let Some(backup) = backup {
        fleet.set("CHIMERA_REDIS_BACKUP", &backup.url());
    }
    start(fleet).await
}

async fn start(fleet: Fleet) -> Result<Fleet> {
    start_some(fleet, &PROCESSES).await
}

/// With these processes, of which one is `api`.
async fn start_some(mut fleet: Fleet, processes: &[(&str, &str)]) -> Result<Fleet> {
    for (name, roles) in processes {
        fleet.start(name, roles).await?;
    }
    fleet.process("api").install(&guest("misbehave")).await?;
    Ok(fleet)
}

/// Gives the tasks of a scenario.
async fn give(fleet: &mut Fleet) -> Result<()> {
    fleet.give("api", SKILL, &json!({ "mode": "behave" }), tasks()).await.map(drop)
}

/// All of them must have been approved, once each.
async fn check(fleet: &mut Fleet) -> Result<()> {
    let approved = fleet.settle().await?;
    ensure!(approved == i64::try_from(tasks())?, "{approved} of {} were approved", tasks());
    fleet.check("api").await
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).unwrap();
    Ok(kill_process(pid, signal)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed_at_random_lose_nothing() -> Result<()> {
    let seed =
        std::env::var("CHIMERA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("CHIMERA_SEED={seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let mut fleet = fleet().await?;
    give(&mut fleet).await?;
    let kills = if is_full() { 60 } else { 8 };
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..400))).await;
        let (name, roles) = PROCESSES[rng.random_range(0..PROCESSES.len())];
        fleet.process(name).kill9();
        fleet.spawn(name, roles, &[])?;
    }
    fleet.process("api").wait_until_ready().await?;
    check(&mut fleet).await
}

/// Where each role can be made to kill itself, the how manieth time that it comes by there, and which process does it.
const FAILPOINTS: [(&str, u32, &str); 6] = [
    ("worker.before_report", 5, "worker-a"),
    ("worker.after_report", 5, "worker-a"),
    ("judge.before_verdict", 5, "judge"),
    ("store.before_commit", 5, "worker-a"),
    ("store.after_commit", 5, "api"),
    ("store.before_commit", 5, "judge"),
];

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_die_at_a_failpoint_lose_nothing() -> Result<()> {
    let stride = if is_full() { 1 } else { 2 };
    for (failpoint, nth, name) in FAILPOINTS.into_iter().step_by(stride) {
        let mut fleet = fleet().await?;
        let roles = PROCESSES.iter().find(|(other, _)| *other == name).unwrap().1;
        fleet.process(name).terminate().await?;
        fleet.start_with(name, roles, &[("CHIMERA_FAILPOINT", &format!("{failpoint}={nth}"))]).await?;
        let count = if is_full() { 1_000 } else { 60 };
        let input = json!({ "mode": "behave" });
        let ids = fleet.give("api", SKILL, &input, count).await;
        let started = Instant::now();
        while !fleet.process(name).has_ended() {
            ensure!(started.elapsed() < chimera_tests::PATIENCE, "{name} never came by {failpoint}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fleet.start(name, roles).await?;
        if ids.is_err() {
            // The API died on the way: whoever was not answered asks again.
            fleet.give("api", SKILL, &input, count).await?;
        }
        let approved = fleet.settle().await?;
        let all = fleet.database.number("SELECT count(*) FROM tasks").await?;
        ensure!(approved == all && all >= i64::try_from(count)?, "{failpoint}: {approved} of {all} were approved");
        fleet.check("api").await?;
        println!("{name} died at {failpoint}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planner_that_dies_at_a_failpoint_loses_no_campaign() -> Result<()> {
    let failpoints = ["planner.before_plan_commit=1", "relay.before_push=2", "store.after_commit=4"];
    let stride = if is_full() { 1 } else { 2 };
    for failpoint in failpoints.into_iter().step_by(stride) {
        let mut fleet = fleet().await?;
        fleet.process("api").install_bundled().await?;
        fleet.process("planner").terminate().await?;
        fleet.start_with("planner", "planner", &[("CHIMERA_FAILPOINT", failpoint)]).await?;
        let campaign = fleet.begin_campaign("api").await?;
        let started = Instant::now();
        while !fleet.process("planner").has_ended() {
            ensure!(started.elapsed() < chimera_tests::PATIENCE, "it never came by {failpoint}");
            fleet.answer("api", &campaign).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What it had claimed is claimed again after half a minute, by it or by another planner.
        fleet.start("planner-b", "planner").await?;
        fleet.finish_campaign("api", &campaign).await?;
        fleet.check("api").await?;
        ensure!(chimera_mcp::social::read_posts(&fleet.posts_file())?.len() == 1, "one post after {failpoint}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sleeps_through_its_leases_is_fenced_off() -> Result<()> {
    let mut fleet = fleet().await?;
    give(&mut fleet).await?;
    let asleep = fleet.process("worker-a").pid();
    // In the middle of its work.
    let running =
        "SELECT count(*) FROM tasks JOIN agents ON agents.id = tasks.worker_id WHERE tasks.status = 'running'";
    let started = Instant::now();
    while fleet.database.number(running).await? == 0 && started.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    signal(asleep, Signal::STOP)?;
    // Leases last 45 seconds.
    let settled = fleet.settle().await;
    tokio::time::sleep(Duration::from_secs(50).saturating_sub(started.elapsed())).await;
    signal(asleep, Signal::CONT)?;
    ensure!(settled.is_ok(), "{settled:?}");
    // What it reports now is late, and it goes on working.
    tokio::time::sleep(Duration::from_secs(2)).await;
    check(&mut fleet).await?;
    fleet.process("worker-b").terminate().await?;
    fleet.give("api", SKILL, &json!({ "mode": "behave" }), 20).await?;
    fleet.settle().await?;
    fleet.check("api").await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing() -> Result<()> {
    let mut fleet = fleet().await?;
    let cuts = if is_full() { 40 } else { 6 };
    let count = tasks() / cuts;
    let (mut given, mut cut) = (0, 0);
    for _ in 0..cuts {
        // Who is not answered, or answered that it cannot be done now, asks again.
        let input = json!({ "mode": "behave" });
        let giving = fleet.give("api", SKILL, &input, count);
        let giving = tokio::time::timeout(Duration::from_secs(60), giving).await;
        given += usize::from(matches!(giving, Ok(Ok(_)))) * count;
        cut += fleet.database.cut().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(cut > 0, "nothing was cut");
    let approved = fleet.settle().await?;
    ensure!(approved >= i64::try_from(given)?, "{approved} of {given} were approved");
    fleet.check("api").await
}

/// Gives these many tasks, through whatever happens; how many were answered.
async fn give_through(fleet: &mut Fleet, count: usize) -> Result<usize> {
    fleet.process("api").give_through(SKILL, &json!({ "mode": "behave" }), count).await
}

/// All that were answered were done; of those that were not, whatever was kept was done too.
async fn check_given(fleet: &mut Fleet, given: usize) -> Result<()> {
    let approved = fleet.settle().await?;
    let all = fleet.database.number("SELECT count(*) FROM tasks").await?;
    ensure!(approved == all && all >= i64::try_from(given)?, "{approved} of {all} were approved, {given} were given");
    fleet.check("api").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_and_comes_back_loses_nothing() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut fleet = fleet_on(Database::create_on(postgres.url()).await?).await?;
    let crashes = if is_full() { 10 } else { 2 };
    let mut given = 0;
    for _ in 0..crashes {
        given += give_through(&mut fleet, tasks() / crashes).await?;
        postgres.crash()?;
        // Asked meanwhile, the API says what is the matter, and at once.
        let asked = Instant::now();
        let (status, problem) = fleet.process("api").request("GET", "/api/v1/tasks", None).await?;
        ensure!(status == 503 && problem["code"] == "unavailable", "{status} {problem}");
        ensure!(asked.elapsed() < Duration::from_secs(15), "it took {:?} to say so", asked.elapsed());
        ensure!(fleet.process("api").request("GET", "/readyz", None).await?.0 == 503, "it is not ready");
        postgres.up()?;
    }
    check_given(&mut fleet, given).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_and_goes_on_loses_nothing() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut fleet = fleet_on(Database::create_on(postgres.url()).await?).await?;
    let given = give_through(&mut fleet, tasks() / 2).await?;
    let processes = postgres.processes()?;
    processes.iter().try_for_each(|pid| signal(*pid, Signal::STOP))?;
    tokio::time::sleep(Duration::from_secs(if is_full() { 50 } else { 5 })).await;
    processes.iter().try_for_each(|pid| signal(*pid, Signal::CONT))?;
    let given = given + give_through(&mut fleet, tasks() / 2).await?;
    check_given(&mut fleet, given).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_killed_and_comes_back_empty_loses_nothing() -> Result<()> {
    let mut redis = Redis::start()?;
    let mut fleet = fleet_with(&redis, None).await?;
    let third = tasks() / 3;
    let mut given = give_through(&mut fleet, third).await?;
    redis.kill9();
    given += give_through(&mut fleet, third).await?;
    fleet.switched("primary", "last").await?;
    redis.up()?;
    fleet.switched("last", "primary").await?;
    given += give_through(&mut fleet, third).await?;
    check_given(&mut fleet, given).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_hangs_is_stood_in_for_by_its_backup() -> Result<()> {
    let (redis, backup) = (Redis::start()?, Redis::start()?);
    let mut fleet = fleet_with(&redis, Some(&backup)).await?;
    let third = tasks() / 3;
    let mut given = give_through(&mut fleet, third).await?;
    redis.hang()?;
    given += give_through(&mut fleet, third).await?;
    fleet.switched("primary", "backup").await?;
    redis.go_on()?;
    fleet.switched("backup", "primary").await?;
    given += give_through(&mut fleet, third).await?;
    check_given(&mut fleet, given).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_starts_and_works_without_its_redis() -> Result<()> {
    let mut redis = Redis::start()?;
    redis.kill9();
    let mut fleet = fleet_with(&redis, None).await?;
    let given = give_through(&mut fleet, 30).await?;
    check_given(&mut fleet, given).await
}
