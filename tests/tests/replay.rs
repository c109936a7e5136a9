//! Finished tasks are run again from their journals: bit for bit the same, without anything leaving the house.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{Drive, End, Social, list, text};
use chimera_tests::{Server, chimera, guest, said, skills};
use serde_json::{Value, json};

/// Replays a task; the answer.
async fn replay(server: &Server, task: &str) -> Result<Value> {
    let (status, answer) = server.request("POST", &format!("/api/v1/tasks/{task}/replay"), None).await?;
    ensure!(status == 200, "replaying {task}: {status} {answer:#}");
    Ok(answer)
}

/// Runs a skill once as a campaign of one step; its task, once that is final or waits for a human.
async fn run(server: &Server, skill: &str, input: Value) -> Result<Value> {
    let step = json!({ "id": "step", "skill": skill, "input": input });
    let made =
        server.post("/api/v1/campaigns", &json!({ "title": "replay", "goal": "Replay it.", "steps": [step] })).await?;
    let id = made["id"].as_str().or(made["campaign"]["id"].as_str()).context("no id")?.to_owned();
    server
        .until(&format!("/api/v1/tasks?campaign={id}"), "the task", |tasks| {
            let task = list(tasks).into_iter().next()?;
            let state = text(&task["state"]);
            matches!(state.as_str(), "approved" | "failed" | "rejected" | "awaiting_approval").then_some(task)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_is_replayed_identically_and_posts_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut drive = Drive::start(folder.path(), Social::Idempotent, &[]).await?;
    ensure!(drive.finish().await? == End::Finished("completed".to_owned()));
    let id = drive.campaign_id().context("a campaign")?.to_owned();
    let path = format!("/api/v1/campaigns/{id}");
    let before = drive.server().get(&path).await?;
    let posts = std::fs::read(drive.data.join("social.jsonl")).unwrap_or_default();
    for task in list(&before["tasks"]) {
        let answer = replay(drive.server(), &text(&task["id"])).await?;
        ensure!(answer["same"] == true && answer["replay"]["verdict"]["kind"] == "identical", "{task:#} {answer:#}");
        let calls = list(&answer["replay"]["calls"]);
        ensure!(calls[0]["call"] == "run.start" && calls.iter().all(|call| call["same"] == true), "{answer:#}");
    }
    ensure!(drive.server().get(&path).await? == before, "a replay changed the campaign");
    ensure!(std::fs::read(drive.data.join("social.jsonl")).unwrap_or_default() == posts, "a replay posted");
    // The CLI says the same.
    let task = text(&list(&before["tasks"])[0]["id"]);
    let output = chimera(&drive.data, &["task", "replay", &task]);
    ensure!(output.status.code() == Some(0) && said(&output).contains("Identical"), "{}", said(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_chance_memory_logs_and_callees_are_the_recorded_ones() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    let is_summarize = |path: &std::path::PathBuf| path.to_string_lossy().contains("chimera-summarize-");
    server.install(&skills().into_iter().find(is_summarize).context("the skill summarize")?).await?;
    server.install(&guest("exerciser")).await?;
    server.post("/api/v1/grants", &json!({ "skill": "test/exerciser", "callee": "chimera/summarize" })).await?;
    let texts = json!(["The bridge is closed. The bridge will be rebuilt. It rained."]);
    for input in [
        json!({ "mode": "chance" }),
        json!({ "mode": "keep", "key": "k", "value": { "a": [1, 2.5, null] } }),
        json!({ "mode": "remember", "texts": ["one", "two"], "value": {} }),
        json!({ "mode": "recall", "texts": ["one"] }),
        json!({ "mode": "report", "texts": texts }),
        json!({ "mode": "secret", "key": "social_token" }),
        json!({ "mode": "call", "key": "chimera/summarize", "texts": texts }),
    ] {
        let task = run(&server, "test/exerciser", input.clone()).await?;
        let answer = replay(&server, &text(&task["id"])).await?;
        ensure!(answer["replay"]["verdict"]["kind"] == "identical", "{input}: {task:#} {answer:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_replayed_to_where_they_ended() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install(&guest("misbehave")).await?;
    for (mode, kind) in [
        ("trap", "identical"),
        ("memory-bomb", "identical"),
        ("deep-recursion", "identical"),
        ("nan-confidence", "identical"),
        ("wrong-schema", "identical"),
        ("endless-loop", "same-until-ended"),
        ("sleep-an-hour", "same-until-ended"),
        ("undeclared-tool", "identical"),
    ] {
        let task = run(&server, "hostile/misbehave", json!({ "mode": mode })).await?;
        let answer = replay(&server, &text(&task["id"])).await?;
        ensure!(answer["same"] == true, "{mode}: {task:#} {answer:#}");
        ensure!(answer["replay"]["verdict"]["kind"] == kind, "{mode}: {answer:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_is_told_the_same_and_what_is_not_the_same_is_said() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install(&guest("echo")).await?;
    let task = text(&run(&server, "test/echo", json!({ "text": "hello" })).await?["id"]);
    let waiter = guest("waiter");
    let output = chimera(data.path(), &["task", "replay", &task, "--with", &waiter.to_string_lossy()]);
    ensure!(!output.status.success() && said(&output).contains("input does not fit"), "{}", said(&output));
    let output = chimera(data.path(), &["task", "replay", &task, "--epoch", "7"]);
    ensure!(output.status.code() == Some(1) && said(&output).contains("no complete journal"), "{}", said(&output));
    let refused = chimera(data.path(), &["task", "replay", &task, "--with", "Cargo.toml"]);
    ensure!(!refused.status.success(), "{}", said(&refused));
    Ok(())
}
