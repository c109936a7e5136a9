//! kill -9 at every commit, every send and at random moments: the campaign finishes, no task is lost, `social` holds
//! exactly one post and the audit chain is valid. Against a `social` that takes no idempotency key: one post, or none
//! and one open question; never two.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context as _, Result, ensure};
use chimera_tests::campaign::{Drive, End, Social, list, text};
use chimera_tests::is_full;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Where the process can be made to kill itself.
const FAILPOINTS: [&str; 12] = [
    "store.before_commit",
    "store.after_commit",
    "mcp.before_intent",
    "mcp.after_intent",
    "mcp.before_send",
    "mcp.after_send",
    "mcp.after_outcome",
    "worker.before_report",
    "worker.after_report",
    "planner.before_plan_commit",
    "relay.before_push",
    "judge.before_verdict",
];

/// Carries a campaign to its end and checks everything that must hold.
async fn check(drive: &mut Drive, social: Social, what: &str) -> Result<()> {
    let end = drive.finish().await?;
    let posts = drive.check().await?;
    match (social, &end) {
        (_, End::Finished(state)) if state == "completed" => {
            ensure!(posts == 1, "{what}: completed with {posts} posts");
        }
        (Social::Forgetful, End::Asked(kind)) if kind == "unknown-effect" => {
            ensure!(posts <= 1, "{what}: {posts} posts and a question");
        }
        _ => anyhow::bail!("{what}: ended as {end:?} with {posts} posts"),
    }
    replayed(drive, what).await?;
    ensure!(drive.check().await? == posts, "{what}: a replay posted");
    Ok(())
}

/// However often the host died: what was done can be done again from the journals, bit for bit.
async fn replayed(drive: &mut Drive, what: &str) -> Result<()> {
    let id = drive.campaign_id().context("there is a campaign")?.to_owned();
    let view = drive.server().get(&format!("/api/v1/campaigns/{id}")).await?;
    for task in list(&view["tasks"]).into_iter().filter(|task| task["state"] == "approved") {
        let path = format!("/api/v1/tasks/{}/replay", text(&task["id"]));
        let (status, replay) = drive.server().request("POST", &path, None).await?;
        ensure!(status == 200 && replay["same"] == true, "{what}: {status} {replay:#}");
    }
    Ok(())
}

/// One run for each time the campaign comes by the failpoint, until it does not come by any more.
async fn kill_at_failpoint(name: &str, social: Social) -> Result<u32> {
    let stride = if is_full() { 1 } else { 7 };
    let mut killed = 0;
    for nth in (1..=400_u32).step_by(stride) {
        let folder = tempfile::tempdir()?;
        let armed = format!("{name}={nth}");
        let mut drive = Drive::start(folder.path(), social, &[("CHIMERA_FAILPOINT", &armed)]).await?;
        check(&mut drive, social, &armed).await?;
        if drive.restarts == 0 {
            break;
        }
        killed += 1;
    }
    println!("{name}: killed {killed} times");
    Ok(killed)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_failpoint_nothing_is_lost_or_done_twice() -> Result<()> {
    killed_at_every_failpoint(Social::Idempotent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_idempotency_keys_never_gets_two_posts() -> Result<()> {
    killed_at_every_failpoint(Social::Forgetful).await
}

async fn killed_at_every_failpoint(social: Social) -> Result<()> {
    for name in FAILPOINTS {
        ensure!(kill_at_failpoint(name, social).await? > 0, "{name} was never reached: it is dead or misnamed");
    }
    Ok(())
}

async fn kill_at_random_moments(social: Social) -> Result<()> {
    let seed = std::env::var("CHIMERA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random::<u64>());
    println!("CHIMERA_SEED={seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let moments = if is_full() { 50 } else { 8 };
    let mut killed = 0;
    while killed < moments {
        let folder = tempfile::tempdir()?;
        let mut drive = Drive::start(folder.path(), social, &[]).await?;
        // Some campaigns are killed more than once.
        for _ in 0..rng.random_range(1..=3_u32) {
            drive.run_for(Duration::from_millis(rng.random_range(0..2_500))).await?;
            drive.kill9();
            killed += 1;
            drive.restart()?;
        }
        check(&mut drive, social, &format!("seed {seed}, kill {killed}")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_nothing_is_lost_or_done_twice() -> Result<()> {
    kill_at_random_moments(Social::Idempotent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_a_forgetful_server_never_gets_two_posts() -> Result<()> {
    kill_at_random_moments(Social::Forgetful).await
}
