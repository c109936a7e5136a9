//! Wall clocks that jump: what is due is decided by the database's clock, so it makes no difference.

use super::{SKILL, check_given, fleet, give_through, tasks};
use anyhow::{Context as _, Result, ensure};
use chimera_tests::PATIENCE;
use chimera_tests::fleet::Fleet;
use chimera_tests::wall_clock::WallClock;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};

/// Starts a process again, with a wall clock of its own and whatever else it is told.
async fn restart_by(
    fleet: &mut Fleet,
    (name, roles): (&str, &str),
    clock: &WallClock,
    more: &[(&str, &str)],
) -> Result<()> {
    if !fleet.process(name).has_ended() {
        fleet.process(name).terminate().await?;
    }
    let clock = clock.environment();
    // What it logs tells what it takes for the time.
    let clock = clock.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([("CHIMERA_LOG", "info")]);
    fleet.start_with(name, roles, &clock.chain(more.iter().copied()).collect::<Vec<_>>()).await
}

/// A lease lasts 45 seconds from when it was taken or renewed, by the server's clock.
async fn leases_end_in_time(fleet: &Fleet) -> Result<()> {
    let odd = fleet
        .database
        .number(
            "SELECT count(*) FROM tasks WHERE status = 'running' AND abs(
                 lease_until - (extract(epoch FROM clock_timestamp()) * 1000)::bigint) > 60000",
        )
        .await?;
    ensure!(odd == 0, "{odd} leases end at a time that is not the server's");
    Ok(())
}

/// How many seconds the newest line of a process's log is ahead of the right time.
fn ahead(fleet: &mut Fleet, name: &str) -> Result<i64> {
    let log = fleet.process(name).log();
    let written = log.lines().rev().find_map(|line| seconds_of_day(line.split_whitespace().next()?));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let apart = written.context("no line of the log has a time")? - i64::try_from(now % 86_400)?;
    // Around midnight.
    Ok((apart + 43_200).rem_euclid(86_400) - 43_200)
}

/// Of `2026-01-01T12:34:56.789Z`.
fn seconds_of_day(time: &str) -> Option<i64> {
    let (hours, rest) = time.split_once('T')?.1.split_once(':')?;
    let (minutes, rest) = rest.split_once(':')?;
    Some((hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?) * 60 + rest.get(..2)?.parse::<i64>().ok()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_clocks_that_jump_change_nothing() -> Result<()> {
    let mut fleet = fleet().await?;
    let worker = WallClock::create(fleet.folder.path(), "worker")?;
    let planner = WallClock::create(fleet.folder.path(), "planner")?;
    let part = tasks() / 3;
    // It dies while it holds leases that it has taken with its clock an hour ahead.
    let dies = format!("worker.before_report={}", part * 2 / 3);
    restart_by(&mut fleet, ("worker-a", "worker"), &worker, &[("CHIMERA_FAILPOINT", &dies)]).await?;
    restart_by(&mut fleet, ("planner", "planner"), &planner, &[]).await?;
    let mut given = give_through(&mut fleet, part / 3).await?;
    fleet.settle().await?;
    worker.jump(1).await?;
    planner.jump(1).await?;
    // Alone, so that it comes by its failpoint.
    fleet.process("worker-b").terminate().await?;
    given += give_through(&mut fleet, part).await?;
    let started = Instant::now();
    while !fleet.process("worker-a").has_ended() {
        leases_end_in_time(&fleet).await?;
        ensure!(started.elapsed() < PATIENCE, "worker-a never came by {dies}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fleet.start("worker-b", "worker").await?;
    // What the dead one held is due when its leases end, and not an hour later.
    let died = Instant::now();
    fleet.settle().await?;
    println!("what worker-a held was done {:?} after its end", died.elapsed());
    let begun_again = "SELECT count(*) FROM tasks WHERE attempt > 1";
    let lost = fleet.database.number(begun_again).await?;
    ensure!(lost > 0, "worker-a held nothing when it died");
    // An hour behind: what it leases would have run out before it began, and everything that others hold is far from due.
    worker.jump(-1).await?;
    planner.jump(-1).await?;
    restart_by(&mut fleet, ("worker-a", "worker"), &worker, &[]).await?;
    let behind = ahead(&mut fleet, "worker-a")?;
    ensure!(
        (-3_700..-3_500).contains(&behind),
        "its wall clock is {behind} s ahead of the right time: it has no effect"
    );
    given += give_through(&mut fleet, part).await?;
    leases_end_in_time(&fleet).await?;
    fleet.settle().await?;
    // While it works, from an hour behind to an hour ahead.
    let (more, jumped) = tokio::join!(give_through(&mut fleet, part), worker.jump(1));
    jumped?;
    given += more?;
    fleet.settle().await?;
    let again = fleet.database.number(begun_again).await?;
    ensure!(again == lost, "{} tasks were begun again because a clock jumped", again - lost);
    fleet.process("worker-b").terminate().await?;
    given += fleet.give("api", SKILL, &json!({ "mode": "behave" }), 20).await?.len();
    check_given(&mut fleet, given).await
}
