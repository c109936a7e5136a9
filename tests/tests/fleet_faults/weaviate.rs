//! A Weaviate that is configured and never answers: the embedded indexes do, and it is said.

use super::{SKILL, check_given, give_through, start, tasks};
use anyhow::{Result, ensure};
use chimera_tests::campaign::text;
use chimera_tests::fleet::Fleet;
use chimera_tests::{PATIENCE, guest};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A whole run beside a Weaviate at this address.
async fn whole_run(port: u16) -> Result<()> {
    let mut fleet = Fleet::create().await?;
    fleet.set("CHIMERA_WEAVIATE", &format!("http://:key-that-is-secret@127.0.0.1:{port}"));
    let mut fleet = start(fleet).await?;
    fleet.process("api").install(&guest("exerciser")).await?;
    let mut given = give_through(&mut fleet, tasks()).await?;
    // What is remembered is found, by the worker that has it in its index.
    fleet.settle().await?;
    fleet.process("worker-b").terminate().await?;
    for (number, fruit) in ["Plums are ripe in August.", "Apples keep all winter."].into_iter().enumerate() {
        ask(&mut fleet, &json!({ "mode": "remember", "texts": [fruit], "value": { "number": number } })).await?;
    }
    let recalled = ask(&mut fleet, &json!({ "mode": "recall", "texts": ["ripe plums"] })).await?;
    ensure!(recalled.to_string().contains("Plums are ripe"), "{recalled:#}");
    given += 3;
    let asked = Instant::now();
    let hits = fleet.process("api").get("/api/v1/search?q=misbehave%20limit&limit=5").await?;
    ensure!(hits.to_string().contains(SKILL), "{hits:#}");
    ensure!(asked.elapsed() < Duration::from_secs(2), "a search waited for {:?}", asked.elapsed());
    // It is said, without the key, and nobody is kept from working by it.
    let index = fleet.process("api").get("/api/v1/index").await?;
    ensure!(index["weaviate"]["state"] == "down", "{index:#}");
    ensure!(text(&index["weaviate"]["why"]).contains("Weaviate"), "{index:#}");
    let log = fleet.process("api").log();
    let told = log.matches("Weaviate is down").count();
    ensure!(told == 1 && log.contains(&format!("127.0.0.1:{port}")), "told {told} times:\n{log}");
    ensure!(!log.contains("key-that-is-secret"), "the key is in the log");
    ensure!(fleet.process("api").request("GET", "/readyz", None).await?.0 == 200, "it can work all the same");
    let used = fleet.process("worker-a").processor_time_in_five_seconds().await?;
    ensure!(used < Duration::from_millis(1_500), "it tries without a pause: {used:?} of 5 s");
    check_given(&mut fleet, given).await
}

/// Has the skill that uses every interface do something; what it returns.
async fn ask(fleet: &mut Fleet, input: &Value) -> Result<Value> {
    let task = fleet.give("api", "test/exerciser", input, 1).await?.remove(0);
    let api = fleet.process("api");
    let started = Instant::now();
    loop {
        let view = api.get(&format!("/api/v1/tasks/{task}")).await?;
        if view["task"]["state"] == "approved" {
            return Ok(view["task"].clone());
        }
        ensure!(started.elapsed() < PATIENCE, "it does not end: {view:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaviate_that_is_not_there_keeps_nobody_from_working() -> Result<()> {
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    whole_run(port).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaviate_that_never_answers_keeps_nobody_from_working() -> Result<()> {
    let silent = chimera_tests::silence::Silence::listen()?;
    whole_run(silent.port()).await
}
