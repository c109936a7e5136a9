//! Planner, workers, judge and API as processes of their own on one PostgreSQL.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::fleet::Fleet;
use chimera_tests::guest;
use serde_json::{Value, json};

/// One process a role, and two workers.
async fn start() -> Result<Fleet> {
    let mut fleet = Fleet::create().await?;
    for (name, roles) in
        [("api", "api"), ("planner", "planner"), ("judge", "judge"), ("worker-a", "worker"), ("worker-b", "worker")]
    {
        fleet.start(name, roles).await?;
    }
    Ok(fleet)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_goes_through_five_processes() -> Result<()> {
    let mut fleet = start().await?;
    fleet.process("api").install_bundled().await?;
    let campaign = fleet.begin_campaign("api").await?;
    fleet.finish_campaign("api", &campaign).await?;
    fleet.check("api").await?;
    ensure!(chimera_mcp::social::read_posts(&fleet.posts_file())?.len() == 1, "one post");
    let agents = list(&fleet.process("api").get("/api/v1/agents").await?);
    let of = |role: &str| agents.iter().filter(|agent| agent["type"] == role).count();
    ensure!(of("planner") == 1 && of("judge") == 1 && of("worker") >= 2, "{agents:?}");
    // A process that serves no API says how it is, and nothing else.
    ensure!(fleet.process("planner").request("GET", "/healthz", None).await?.0 == 200);
    ensure!(fleet.process("planner").request("GET", "/api/v1/campaigns", None).await?.0 == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_run_everywhere_and_a_drained_worker_loses_nothing() -> Result<()> {
    let mut fleet = start().await?;
    fleet.process("api").install(&guest("misbehave")).await?;
    let skill = list(&fleet.process("api").get("/api/v1/skills").await?)[0].clone();
    let name = text(skill.get("name").unwrap_or(&skill["skill"]["name"]));
    let input = json!({ "mode": "behave" });
    fleet.give("api", &name, &input, 200).await?;
    // It finishes what it has, gives back nothing, and says that it has stopped.
    fleet.process("worker-a").terminate().await?;
    fleet.give("api", &name, &input, 50).await?;
    let approved = fleet.settle().await?;
    ensure!(approved == 250, "{approved} of 250 were approved");
    fleet.check("api").await?;
    let restarts = fleet.database.number("SELECT count(*) FROM tasks WHERE attempt > 1").await?;
    ensure!(restarts == 0, "{restarts} tasks were begun again because a worker was drained");
    let agents = list(&fleet.process("api").get("/api/v1/agents").await?);
    let is_stopped = |agent: &&Value| agent["type"] == "worker" && agent["status"] == "stopped";
    ensure!(agents.iter().filter(is_stopped).count() >= 1, "{agents:?}");
    Ok(())
}
