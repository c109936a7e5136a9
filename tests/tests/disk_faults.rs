//! The data folder's disk is full or read-only: one clear message, no busy loop, nothing lost, nothing published twice, and
//! everything goes on by itself once there is room again.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::campaign::{Drive, End, Social};
use chimera_tests::disk::Disk;
use chimera_tests::privilege::{Privilege, has};
use chimera_tests::{PATIENCE, Server, assert_clear, chimera, guest, invariants, is_full, make_private};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use std::path::Path;
use std::time::{Duration, Instant};

const SKILL: &str = "hostile/misbehave";
/// Processor time of five seconds that waiting and trying again now and then may take.
const LITTLE: Duration = Duration::from_millis(1_500);

/// The one number that a query gives, of the file that the server writes.
async fn number(data: &Path, sql: &str) -> Result<i64> {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}?mode=ro", data.join("chimera.db").display())).await?;
    Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut db).await?)
}

/// Waits until all tasks have ended, as far as they move on.
async fn settle(data: &Path) -> Result<()> {
    const LEFT: &str = "SELECT count(*) FROM tasks WHERE status NOT IN ('approved', 'rejected', 'failed', 'cancelled')";
    let (mut left, mut moved) = (i64::MAX, Instant::now());
    loop {
        let now = number(data, LEFT).await?;
        if now == 0 {
            return Ok(());
        }
        if now < left {
            (left, moved) = (now, Instant::now());
        }
        ensure!(moved.elapsed() < PATIENCE, "{now} tasks do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing() -> Result<()> {
    if !has(&[Privilege::System])? {
        return Ok(());
    }
    let count = if is_full() { 10_000 } else { 600 };
    let disk = Disk::mount(if is_full() { 512 } else { 160 })?;
    // Its log is on the same disk: what cannot be logged must not take the program down.
    let mut drive = Drive::start(disk.path(), Social::Idempotent, &[]).await?;
    drive.wait_until_ready().await?;
    drive.run_for(Duration::from_millis(300)).await?;
    drive.server().install(&guest("misbehave")).await?;
    let behave = json!({ "mode": "behave" });
    let mut given = drive.server().give_through(SKILL, &behave, count / 2).await?;
    disk.fill()?;
    // The campaign tries to go on, up to the post.
    drive.run_for(Duration::from_secs(2)).await?;
    let started = Instant::now();
    let problem = loop {
        // Room that was taken before may last for a few more.
        let body = json!({ "task_id": uuid::Uuid::now_v7(), "spec": { "skill": SKILL, "input": behave } });
        let (status, problem) = drive.server().request("POST", "/assign_task", Some(&body)).await?;
        if status == 503 {
            break problem;
        }
        ensure!(status < 300 && started.elapsed() < PATIENCE, "{status} {problem:#}");
    };
    let detail = problem["detail"].to_string();
    ensure!(problem["code"] == "unavailable" && detail.contains("full") && detail.contains("make room"), "{problem:#}");
    ensure!(drive.server().request("GET", "/healthz", None).await?.0 == 200, "it is alive");
    let used = drive.server().processor_time_in_five_seconds().await?;
    println!("it used {used:?} of 5 s while its disk was full");
    ensure!(used < LITTLE, "it tries without a pause: {used:?} of 5 s");
    disk.free()?;
    given += drive.server().give_through(SKILL, &behave, count / 2).await?;
    let end = drive.finish().await?;
    // `social` keeps its posts on that disk too: it may have said that it cannot, and then the operator is asked.
    let described = drive.describe().await;
    let published = match &end {
        End::Finished(state) if state == "completed" => 1,
        End::Asked(kind) if kind == "stuck" && described.contains("No space left on device") => 0,
        _ => anyhow::bail!("{end:?}\n{described}"),
    };
    ensure!(drive.restarts == 0, "it was started again {} times", drive.restarts);
    settle(&drive.data).await?;
    let approved = number(&drive.data, "SELECT count(*) FROM tasks WHERE status = 'approved'").await?;
    ensure!(approved >= i64::try_from(given)?, "{approved} of {given} were approved");
    let data = drive.data.clone();
    invariants::check("detail", async |sql| number(&data, sql).await).await?;
    ensure!(drive.check().await? == published, "{published} posts after {end:?}");
    if published > 0 {
        invariants::check_posts(&drive.data.join("social.json"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_on_a_read_only_disk_is_told() -> Result<()> {
    if !has(&[Privilege::System])? {
        return Ok(());
    }
    let disk = Disk::mount(64)?;
    let data = disk.path().join("data");
    let mut server = Server::start(&data).await?;
    server.terminate().await?;
    disk.make_read_only()?;
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    assert_clear(&chimera(&data, &serve), 1, &["data", "read-only", "--data-dir"]);
    let doctor = chimera(&data, &["doctor"]);
    ensure!(doctor.status.code() == Some(1), "{}", chimera_tests::said(&doctor));
    assert!(chimera_tests::said(&doctor).contains("cannot be written"), "{}", chimera_tests::said(&doctor));
    disk.make_writable()?;
    let _server = Server::start(&data).await?;
    Ok(())
}

#[test]
fn a_start_on_a_full_disk_is_told() -> Result<()> {
    if !has(&[Privilege::System])? {
        return Ok(());
    }
    let disk = Disk::mount(8)?;
    let data = disk.path().join("data");
    std::fs::create_dir(&data)?;
    make_private(&data)?;
    disk.fill()?;
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    assert_clear(&chimera(&data, &serve), 1, &[data.to_str().unwrap(), "space"]);
    Ok(())
}
