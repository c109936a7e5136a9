//! A database that can be read and not written: its disk is full, or it was made read-only. It is said what is the matter,
//! nobody tries without a pause, and everything goes on by itself when it can be written again.

use super::{check_given, fleet_on, give_through, tasks};
use anyhow::{Result, ensure};
use chimera_tests::disk::Disk;
use chimera_tests::fleet::{Database, Fleet};
use chimera_tests::postgres::Postgres;
use chimera_tests::privilege::{Privilege, has};
use chimera_tests::{PATIENCE, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Processor time of five seconds that waiting and trying again now and then may take.
const LITTLE: Duration = Duration::from_millis(1_500);

/// What a request that writes is answered now.
async fn write_something(api: &Server) -> Result<(u16, Value)> {
    let task =
        json!({ "task_id": uuid::Uuid::now_v7(), "spec": { "skill": super::SKILL, "input": { "mode": "behave" } } });
    api.request("POST", "/assign_task", Some(&task)).await
}

/// It says what is the matter to who asks and in the log, and nobody is busy with it.
async fn waits_quietly(fleet: &mut Fleet, matter: &str) -> Result<()> {
    let started = Instant::now();
    // Room that was taken before may last for a few more; and who was cut off is told that first.
    loop {
        let (status, problem) = write_something(fleet.process("api")).await?;
        if status == 503 && problem["code"] == "unavailable" && problem["detail"].to_string().contains(matter) {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "it does not say `{matter}`: {status} {problem:#}");
    }
    // Whatever was going on ends.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in ["worker-a", "worker-b", "planner", "judge", "api"] {
        let used = fleet.process(name).processor_time_in_five_seconds().await?;
        println!("{name} used {used:?} of 5 s");
        ensure!(used < LITTLE, "{name} tries without a pause: {used:?} of 5 s\n{}", fleet.process(name).log_tail());
    }
    ensure!(
        fleet.process("api").log().contains(matter),
        "the log does not say so:\n{}",
        fleet.process("api").log_tail()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_loses_nothing() -> Result<()> {
    if !has(&[Privilege::System])? {
        return Ok(());
    }
    let disk = Disk::mount(if chimera_tests::is_full() { 512 } else { 160 })?;
    let postgres = Postgres::start_with_tables_on(&disk)?;
    let mut fleet = fleet_on(Database::create_on(postgres.url()).await?).await?;
    let mut given = give_through(&mut fleet, tasks() / 2).await?;
    disk.fill()?;
    waits_quietly(&mut fleet, "No space left on device").await?;
    disk.free()?;
    given += give_through(&mut fleet, tasks() / 2).await?;
    check_given(&mut fleet, given).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_made_read_only_loses_nothing() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut fleet = fleet_on(Database::create_on(postgres.url()).await?).await?;
    let mut given = give_through(&mut fleet, tasks() / 2).await?;
    postgres.set_read_only(true).await?;
    fleet.database.cut().await?;
    waits_quietly(&mut fleet, "read-only transaction").await?;
    // Sessions that were opened meanwhile would stay read-only: nobody ends them now.
    postgres.set_read_only(false).await?;
    given += give_through(&mut fleet, tasks() / 2).await?;
    check_given(&mut fleet, given).await
}
