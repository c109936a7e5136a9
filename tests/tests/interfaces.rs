//! Every interface of the contract, used honestly by a real skill in a running server: what the host answers is what the
//! contract says, and what was kept stays the skill's own.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::{Server, guest, skills};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

const EXERCISER: &str = "test/exerciser";
const SOCIAL: &str = "social";

fn bundled(name: &str) -> PathBuf {
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("chimera-{name}-"));
    skills().into_iter().find(is_it).unwrap()
}

/// A server that is running when the skills arrive.
async fn server_with_exerciser() -> Result<(tempfile::TempDir, Server)> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install(&bundled("summarize")).await?;
    server.install(&guest("exerciser")).await?;
    Ok((data, server))
}

/// Starts a campaign of these steps, one after another; gives its id.
async fn start(server: &Server, steps: &[(&str, Value)]) -> Result<String> {
    let name = |index: usize| format!("step-{index}");
    let steps: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(index, (skill, input))| {
            let before: Vec<String> = index.checked_sub(1).map(name).into_iter().collect();
            json!({ "id": name(index), "skill": skill, "input": input, "depends_on": before })
        })
        .collect();
    let body = json!({ "title": "interfaces", "goal": "Use the interfaces of the contract.", "steps": steps });
    let made = server.post("/api/v1/campaigns", &body).await?;
    let id = made["id"].as_str().or(made["campaign"]["id"].as_str()).context("the new campaign has no id")?;
    Ok(id.to_owned())
}

/// Waits until the campaign is over; gives the outputs of its steps, in their order.
async fn outputs(server: &Server, campaign: &str) -> Result<Vec<Value>> {
    let path = format!("/api/v1/campaigns/{campaign}");
    let view = server
        .until(&path, "the end of the campaign", |view| {
            let is_over = |state: &str| matches!(state, "completed" | "rejected" | "failed" | "cancelled");
            let waits = |task: &Value| task["state"] == "awaiting_approval";
            let is_stuck = list(&view["tasks"]).iter().any(waits);
            (is_over(&text(&view["campaign"]["state"])) || is_stuck).then(|| view.clone())
        })
        .await?;
    ensure!(view["campaign"]["state"] == "completed", "the campaign did not complete: {view:#}");
    let tasks = list(&view["tasks"]);
    let output_of = |step: &Value| {
        let task = tasks.iter().find(|task| task["id"] == step["task"]).context("a step without a task")?;
        Ok(task["outcome"]["output"].clone())
    };
    let mut steps = list(&view["steps"]);
    steps.sort_by_key(|step| text(&step["key"]));
    steps.iter().map(output_of).collect()
}

/// Runs these steps one after another and gives their outputs.
async fn run(server: &Server, steps: &[(&str, Value)]) -> Result<Vec<Value>> {
    outputs(server, &start(server, steps).await?).await
}

/// Runs one step of the exerciser and gives the host's answer.
async fn answer(server: &Server, input: Value) -> Result<Value> {
    let mut outputs = run(server, &[(EXERCISER, input)]).await?;
    Ok(outputs.remove(0)["answer"].take())
}

/// The open questions of a campaign.
async fn open(server: &Server, campaign: &str) -> Result<Vec<Value>> {
    Ok(list(&server.get(&format!("/api/v1/approvals?state=open&campaign={campaign}")).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_found_again_and_stays_the_skills_own() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    server.install(&guest("bystander")).await?;
    let steps = [
        (
            EXERCISER,
            json!({ "mode": "remember", "texts": ["The tram to the harbour runs every ten minutes", "Heat pumps have a waiting list of six months"],
                "value": { "source": "tests", "list": [1, 2.5, null] } }),
        ),
        (EXERCISER, json!({ "mode": "recall", "texts": ["tram harbour"] })),
        (EXERCISER, json!({ "mode": "keep", "key": "plan", "value": { "n": 7, "deep": [true, null, "ü"] } })),
        (EXERCISER, json!({ "mode": "look", "key": "plan" })),
        ("test/bystander", json!({ "query": "tram harbour", "key": "plan" })),
        (EXERCISER, json!({ "mode": "forget", "key": "plan" })),
        (EXERCISER, json!({ "mode": "look", "key": "plan" })),
    ];
    let found = run(&server, &steps).await?;
    let ids = list(&found[0]["answer"]);
    ensure!(ids.len() == 2 && ids[0] != ids[1], "two memories have two ids: {ids:?}");
    let recalled = list(&found[1]["answer"]);
    let best = recalled.first().context("nothing was recalled")?;
    ensure!(best["id"] == ids[0], "the closest memory comes first: {recalled:#?}");
    ensure!(best["text"] == "The tram to the harbour runs every ten minutes", "{best:#}");
    ensure!(best["metadata"] == json!({ "source": "tests", "list": [1, 2.5, null] }), "{best:#}");
    let scores: Vec<f64> = recalled.iter().map(|item| item["score"].as_f64().unwrap()).collect();
    ensure!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    ensure!(scores.is_sorted_by(|a, b| a >= b), "best first: {scores:?}");
    let plan = json!({ "n": 7, "deep": [true, null, "ü"] });
    ensure!(found[2]["answer"] == plan, "{:#}", found[2]);
    ensure!(found[3]["answer"]["kept"] == plan, "a value survives between tasks: {:#}", found[3]);
    ensure!(found[4] == json!({ "recalled": 0, "kept": null }), "another skill saw it: {:#}", found[4]);
    ensure!(found[5]["answer"]["kept"].is_null() && found[6]["answer"]["kept"].is_null(), "{found:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trends_sum_what_was_observed() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    let observe = |topic: &str, weights: Value| json!({ "mode": "observe", "key": topic, "weights": weights });
    let steps = [
        (EXERCISER, observe("tram", json!([1.5, 2.0, 0.25]))),
        (EXERCISER, observe("library", json!([1.0, 1.0]))),
        (EXERCISER, observe("tram", json!([0.25]))),
        (EXERCISER, json!({ "mode": "top" })),
    ];
    let found = run(&server, &steps).await?;
    let expected = json!([
        { "topic": "tram", "weight": 4.0, "count": 4 },
        { "topic": "library", "weight": 2.0, "count": 2 },
    ]);
    ensure!(found[3]["answer"] == expected, "{:#}", found[3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_called_skill_answers_and_the_clock_and_chance_are_real() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    server.post("/api/v1/grants", &json!({ "skill": EXERCISER, "callee": "chimera/summarize" })).await?;
    let sentence = "The new tram line finally opened and the ride to the harbour takes ten minutes.";
    let told = answer(&server, json!({ "mode": "call", "key": "chimera/summarize", "texts": [sentence] })).await?;
    ensure!(told["output"]["summary"] == sentence, "{told:#}");
    ensure!(told["confidence"].as_f64().is_some_and(|sure| (0.0..=1.0).contains(&sure)), "{told:#}");
    ensure!(!list(&told["evidence"]).is_empty(), "the callee's evidence comes back: {told:#}");

    let before = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seen =
        run(&server, &[(EXERCISER, json!({ "mode": "chance" })), (EXERCISER, json!({ "mode": "chance" }))]).await?;
    let after = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut numbers = Vec::new();
    for one in &seen {
        let one = &one["answer"];
        ensure!(one["now_s"].as_u64().is_some_and(|now| (before..=after).contains(&now)), "{one:#}");
        ensure!(one["forward"] == true && one["shrinks"] == true, "time runs forward: {one:#}");
        ensure!(one["left_ms"].as_u64().is_some_and(|left| (1..=20_000).contains(&left)), "{one:#}");
        numbers.extend(list(&one["random"]).iter().map(text));
    }
    numbers.sort();
    numbers.dedup();
    ensure!(numbers.len() == 4, "two runs draw four numbers: {seen:#?}");

    ensure!(answer(&server, json!({ "mode": "report" })).await? == "reported", "reporting never fails");
    ensure!(answer(&server, json!({ "mode": "secret", "key": "social_token" })).await? == false, "none is configured");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_knows_its_limits_gives_a_callee_its_own_and_forgets() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    let limits = answer(&server, json!({ "mode": "limits" })).await?;
    let declared = json!({ "time_s": 20, "fuel": 5_000_000_000_u64, "memory_mb": 64, "output_kb": 64, "mcp_calls": 8 });
    ensure!(limits == declared, "{limits:#}");

    server.post("/api/v1/grants", &json!({ "skill": EXERCISER, "callee": "chimera/summarize" })).await?;
    let sentence = "The new tram line finally opened and the ride to the harbour takes ten minutes.";
    let within = |fuel: u64| json!({ "mode": "call-within", "key": "chimera/summarize", "texts": [sentence], "weights": [fuel] });
    let told = answer(&server, within(1_000_000_000)).await?;
    ensure!(told["output"]["summary"] == sentence, "{told:#}");
    let used = told["fuel"].as_u64().context("what the callee used")?;
    ensure!((2..1_000_000_000).contains(&used), "{told:#}");
    let told = answer(&server, within(used / 2)).await?;
    ensure!(told["failed"].is_string(), "half of what it needs was enough: {told:#}");

    let remember = json!({ "mode": "remember", "texts": ["The tram is open", "The library is open"], "value": {} });
    let ids = list(&answer(&server, remember).await?);
    let forgotten = json!({ "mode": "unremember", "texts": [ids[0], ids[0]] });
    ensure!(answer(&server, forgotten).await? == 2, "forgetting twice is forgetting once");
    let left = list(&answer(&server, json!({ "mode": "recall", "texts": ["open"] })).await?);
    ensure!(left.len() == 1 && left[0]["id"] == ids[1], "{left:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_may_read_of_a_failure_arrives() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    let campaign = start(&server, &[(EXERCISER, json!({ "mode": "fail", "value": { "field": "/url" } }))]).await?;
    let failure = server
        .until(&format!("/api/v1/tasks?campaign={campaign}"), "the failure", |tasks| {
            list(tasks).into_iter().find_map(|task| task["failure"].is_object().then(|| task["failure"].clone()))
        })
        .await?;
    ensure!(failure["code"] == "asked-to" && failure["details"] == json!({ "field": "/url" }), "{failure:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_approval_and_two_effects_need_two() -> Result<()> {
    let (data, server) = server_with_exerciser().await?;
    let grant = json!({ "skill": EXERCISER, "slot": SOCIAL, "server": SOCIAL });
    let granted = server.post("/api/v1/grants", &grant).await?;
    ensure!(granted["tools"]["search_posts"]["mode"] == "read", "{granted:#}");

    let tools = answer(&server, json!({ "mode": "tools" })).await?;
    let names: Vec<String> = list(&tools).iter().map(|tool| text(&tool["name"])).collect();
    ensure!(names.len() == 2 && names.contains(&"search_posts".to_owned()), "declared tools only: {names:?}");

    let texts = json!(["The tram is open", "The library stays open on Sundays"]);
    let campaign = start(&server, &[(EXERCISER, json!({ "mode": "publish", "texts": texts }))]).await?;
    let path = format!("/api/v1/approvals?state=open&campaign={campaign}");
    server.until(&path, "both questions", |open| (list(open).len() == 2).then_some(())).await?;
    let posts = || chimera_mcp::social::read_posts(&data.path().join("social.json")).unwrap_or_default();
    ensure!(posts().is_empty(), "nothing is sent before a human said so");

    // Last asked, first answered: the order of the answers must not matter.
    let asked = open(&server, &campaign).await?;
    ensure!(asked.iter().all(|question| question["kind"] == "effect"), "{asked:#?}");
    for question in asked.iter().rev() {
        let decide = format!("/api/v1/approvals/{}/decide", text(&question["id"]));
        server.post(&decide, &json!({ "decision": "approve" })).await?;
    }
    let published = outputs(&server, &campaign).await?;
    let ids: Vec<String> = list(&published[0]["answer"]).iter().map(|post| text(&post["id"])).collect();
    let mut sent = posts();
    sent.sort_by_key(|post| ids.iter().position(|id| *id == post.id));
    let sent: Vec<String> = sent.into_iter().map(|post| post.text).collect();
    ensure!(json!(sent) == texts, "exactly the two posts, in the order of the calls: {sent:?}, {ids:?}");
    ensure!(open(&server, &campaign).await?.is_empty(), "nothing is asked twice");

    let found = answer(&server, json!({ "mode": "search", "texts": ["library"] })).await?;
    ensure!(list(&found["posts"])[0]["text"] == texts[1], "{found:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calling_an_undeclared_skill_is_a_security_violation() -> Result<()> {
    let (_data, server) = server_with_exerciser().await?;
    server.install(&bundled("draft-post")).await?;
    let input = json!({ "mode": "call", "key": "chimera/draft-post", "texts": ["anything"] });
    let campaign = start(&server, &[(EXERCISER, input)]).await?;
    let task = server
        .until(&format!("/api/v1/tasks?campaign={campaign}"), "the violation", |tasks| {
            list(tasks).into_iter().find(|task| task["state"] == "awaiting_approval")
        })
        .await?;
    ensure!(task["failure"]["kind"] == "security", "{task:#}");
    ensure!(task["failure"]["code"] == "not-declared", "{task:#}");
    let skill = server.get(&format!("/api/v1/skills/{EXERCISER}")).await?;
    ensure!(skill.to_string().contains("\"suspended\""), "the version is not suspended: {skill:#}");
    Ok(())
}
