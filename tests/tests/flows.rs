//! What an operator and an outside worker go through: questions of every kind, answered in every way, and leases held from
//! outside; nothing gets stuck, and nothing goes out without a yes.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{Social, list, text};
use chimera_tests::{Server, chimera, guest, install_template, said, skills};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The component of a bundled skill.
fn bundled(name: &str) -> PathBuf {
    skills().into_iter().find(|path| path.to_string_lossy().contains(&format!("chimera-{name}-"))).unwrap()
}

/// Starts a campaign and gives its id.
async fn campaign(server: &Server, body: &Value) -> Result<String> {
    let made = server.post("/api/v1/campaigns", body).await?;
    Ok(text(&made["campaign"]["id"]))
}

/// A campaign that publishes one text.
async fn publish(server: &Server, what: &str) -> Result<String> {
    let step = json!({ "id": "publish", "skill": "chimera/publish-post", "input": { "text": what } });
    campaign(server, &json!({ "goal": "Publish it", "steps": [step] })).await
}

/// The open question of a campaign, once there is one; another one than `before`.
async fn question(server: &Server, campaign: &str, kind: &str, before: Option<&Value>) -> Result<Value> {
    let path = format!("/api/v1/approvals?state=open&campaign={campaign}");
    let wanted = format!("a question of kind {kind}");
    server
        .until(&path, &wanted, |open| {
            list(open)
                .into_iter()
                .find(|asked| asked["kind"] == kind && before.is_none_or(|old| old["id"] != asked["id"]))
        })
        .await
}

async fn decide(server: &Server, asked: &Value, answer: Value) -> Result<(u16, Value)> {
    server.request("POST", &format!("/api/v1/approvals/{}/decide", text(&asked["id"])), Some(&answer)).await
}

async fn say(server: &Server, asked: &Value, answer: Value) -> Result<()> {
    let (status, told) = decide(server, asked, answer).await?;
    ensure!(status == 200, "{status} {told:#}");
    Ok(())
}

/// Waits until the campaign is over, and checks that it is over in this way and asks nothing any more.
async fn ends(server: &Server, campaign: &str, state: &str) -> Result<Value> {
    let view = server
        .until(&format!("/api/v1/campaigns/{campaign}"), &format!("the end of the campaign ({state})"), |view| {
            let now = text(&view["campaign"]["state"]);
            (!matches!(now.as_str(), "planning" | "running")).then(|| view.clone())
        })
        .await?;
    ensure!(view["campaign"]["state"] == state, "expected {state}: {view:#}");
    let open = list(&server.get(&format!("/api/v1/approvals?state=open&campaign={campaign}")).await?);
    ensure!(open.is_empty(), "a campaign that is over still asks: {open:#?}");
    let audit = server.get("/api/v1/audit/verify").await?;
    ensure!(audit["valid"] == true, "{audit:#}");
    Ok(view)
}

fn published(data: &Path) -> Vec<String> {
    let posts = chimera_mcp::social::read_posts(&data.join("social.json")).unwrap_or_default();
    posts.into_iter().map(|post| post.text).collect()
}

async fn grant(server: &Server, skill: &str) -> Result<Value> {
    server.post("/api/v1/grants", &json!({ "skill": skill, "slot": "social", "server": "social" })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_is_asked_for_and_then_the_effect_is_gated() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path()).await?;
    server.install(&bundled("publish-post")).await?;
    let id = publish(&server, "the first text").await?;
    let denied = question(&server, &id, "denied", None).await?;
    ensure!(denied["reason"].as_str().unwrap().contains("chimera grant add"), "{denied:#}");
    ensure!(decide(&server, &denied, json!({ "decision": "approve", "edited": {} })).await?.0 == 422);

    // A yes without the grant asks again instead of letting anything out.
    say(&server, &denied, json!({ "decision": "approve" })).await?;
    let again = question(&server, &id, "denied", Some(&denied)).await?;
    ensure!(decide(&server, &denied, json!({ "decision": "approve" })).await?.0 == 409);
    grant(&server, "chimera/publish-post").await?;
    say(&server, &again, json!({ "decision": "approve" })).await?;

    // Arguments that do not fit the tool are not sent, and the human is asked anew.
    let gated = question(&server, &id, "effect", None).await?;
    ensure!(gated["payload"]["arguments"] == json!({ "text": "the first text" }), "{gated:#}");
    ensure!(decide(&server, &gated, json!({ "decision": "approve", "edited": "no object" })).await?.0 == 422);
    say(&server, &gated, json!({ "decision": "approve", "edited": { "txet": "misspelt" } })).await?;
    let mended = question(&server, &id, "effect", Some(&gated)).await?;
    ensure!(published(folder.path()).is_empty());
    say(&server, &mended, json!({ "decision": "approve", "edited": { "text": "the second text" } })).await?;
    ends(&server, &id, "completed").await?;
    ensure!(published(folder.path()) == ["the second text"]);

    // Refused is refused.
    let id = publish(&server, "not this").await?;
    let gated = question(&server, &id, "effect", None).await?;
    say(&server, &gated, json!({ "decision": "reject", "note": "never" })).await?;
    ends(&server, &id, "rejected").await?;

    // A fresh start asks anew; a cancelled campaign's question can no longer be answered.
    let id = publish(&server, "nor this").await?;
    let gated = question(&server, &id, "effect", None).await?;
    say(&server, &gated, json!({ "decision": "retry" })).await?;
    let fresh = question(&server, &id, "effect", Some(&gated)).await?;
    server.post(&format!("/api/v1/campaigns/{id}/cancel"), &json!({})).await?;
    ensure!(decide(&server, &fresh, json!({ "decision": "approve" })).await?.0 == 409);
    let view = ends(&server, &id, "cancelled").await?;
    ensure!(list(&view["tasks"]).iter().all(|task| task["state"] == "cancelled"), "{view:#}");
    ensure!(published(folder.path()) == ["the second text"]);
    Ok(())
}

/// Runs the program against the server of that folder; what it printed, if it ended with this code.
fn ended(data: &Path, args: &[&str], code: i32) -> Result<String> {
    let output = chimera(data, args);
    ensure!(output.status.code() == Some(code), "{args:?} ended with {:?}: {}", output.status.code(), said(&output));
    Ok(said(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_of_a_call_is_asked_for_given_listed_and_taken_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path();
    let server = Server::start(data).await?;
    server.install(&bundled("summarize")).await?;
    server.install(&guest("exerciser")).await?;
    let (caller, callee) = ("test/exerciser", "chimera/summarize");
    let calling = async || {
        let input = json!({ "mode": "call", "key": callee, "texts": ["The bridge is closed."] });
        let step = json!({ "id": "call", "skill": caller, "input": input });
        campaign(&server, &json!({ "goal": "Call it", "steps": [step] })).await
    };
    let id = calling().await?;
    let asked = question(&server, &id, "denied", None).await?;
    let reason = text(&asked["reason"]);
    let (_, command) = reason.split_once("allow it with: ").context("no command")?;
    ensure!(command == format!("chimera grant add {caller} --skill {callee}"), "{asked:#}");
    let explained = ended(data, &["grant", "explain", caller, "--skill", callee], 3)?;
    ensure!(explained.contains("no grant covers it") && explained.contains(command), "{explained}");

    // What makes no sense is refused with what would.
    let nothing = ended(data, &["grant", "add", caller], 2)?;
    ensure!(nothing.contains("--slot") && nothing.contains("--skill"), "{nothing}");
    let both = ended(data, &["grant", "add", caller, "--slot", "social", "--server", "social", "--skill", callee], 2)?;
    ensure!(both.contains("names both"), "{both}");
    let undeclared = ended(data, &["grant", "add", caller, "--skill", "chimera/sumarize"], 2)?;
    ensure!(undeclared.contains("it declares: `chimera/summarize`"), "{undeclared}");
    let mistyped = ended(data, &["grant", "add", "test/exercise", "--skill", callee], 1)?;
    ensure!(mistyped.contains("did you mean `test/exerciser`"), "{mistyped}");
    ended(data, &["grant", "add", caller, "--skill", "chimera/summarize@newest"], 2)?;
    let over = ["grant", "add", caller, "--skill", callee, "--expires", "2020-01-01T00:00:00Z"];
    ensure!(ended(data, &over, 2)?.contains("expired already"));
    ensure!(list(&server.get("/api/v1/grants").await?).is_empty(), "nothing came of them");

    // A grant of other versions is none; then the very command of the question.
    ended(data, &["grant", "add", caller, "--skill", "chimera/summarize@>=7", "--expires", "1h"], 0)?;
    say(&server, &asked, json!({ "decision": "approve" })).await?;
    let again = question(&server, &id, "denied", Some(&asked)).await?;
    ensure!(text(&again["reason"]).contains("is for `>=7`, not for"), "{again:#}");
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let granted = ended(data, &words, 0)?;
    ensure!(granted.contains("may call skill chimera/summarize, every version"), "{granted}");
    say(&server, &again, json!({ "decision": "approve" })).await?;
    ends(&server, &id, "completed").await?;
    ensure!(ended(data, &["grant", "explain", caller, "--skill", callee], 0)?.contains("allowed"));

    grant(&server, caller).await?;
    let listed = ended(data, &["grant", "list"], 0)?;
    for part in ["skill chimera/summarize", "every version", "versions >=7", "server social through slot social"] {
        ensure!(listed.contains(part), "{part} is not in {listed}");
    }
    let output = chimera(data, &["grant", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    let kinds = |key: &str| list(&listed).iter().filter(|grant| grant[key].is_string()).count();
    ensure!((kinds("callee"), kinds("slot"), kinds("expires_at")) == (2, 1, 1), "{listed:#}");
    for grant in list(&listed) {
        ended(data, &["grant", "revoke", &text(&grant["id"])], 0)?;
    }
    let id = calling().await?;
    question(&server, &id, "denied", None).await?;
    let explained = ended(data, &["grant", "explain", caller, "--skill", callee], 3)?;
    ensure!(explained.contains("the grant was taken back"), "{explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_effects_asked_for_at_once_are_decided_one_by_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path()).await?;
    server.install(&guest("exerciser")).await?;
    grant(&server, "test/exerciser").await?;
    let both = |one: &str, two: &str| {
        let input = json!({ "mode": "publish", "texts": [one, two] });
        json!({ "goal": "Publish both", "steps": [{ "id": "both", "skill": "test/exerciser", "input": input }] })
    };
    let of = |asked: &[Value], what: &str| {
        asked.iter().find(|asked| asked["payload"]["arguments"]["text"] == what).cloned().unwrap()
    };
    let two_questions = async |id: &str| {
        let path = format!("/api/v1/approvals?state=open&campaign={id}");
        server.until(&path, "two questions", |open| Some(list(open)).filter(|open| open.len() == 2)).await
    };

    // In either order: what the task waits for is answered last, then first.
    let id = campaign(&server, &both("one", "two")).await?;
    let asked = two_questions(&id).await?;
    say(&server, &of(&asked, "two"), json!({ "decision": "approve" })).await?;
    say(&server, &of(&asked, "one"), json!({ "decision": "approve" })).await?;
    ends(&server, &id, "completed").await?;
    let id = campaign(&server, &both("three", "four")).await?;
    let asked = two_questions(&id).await?;
    say(&server, &of(&asked, "three"), json!({ "decision": "approve" })).await?;
    say(&server, &of(&asked, "four"), json!({ "decision": "approve" })).await?;
    ends(&server, &id, "completed").await?;
    let mut texts = published(folder.path());
    texts.sort();
    ensure!(texts == ["four", "one", "three", "two"], "{texts:?}");

    // A no to one of them ends the task, and nobody is asked about the other any more.
    let id = campaign(&server, &both("five", "six")).await?;
    let asked = two_questions(&id).await?;
    say(&server, &asked[0], json!({ "decision": "reject" })).await?;
    let late = decide(&server, &asked[1], json!({ "decision": "reject" })).await?.0;
    ensure!(late == 200 || late == 409, "{late}");
    ends(&server, &id, "rejected").await?;
    ensure!(published(folder.path()).len() == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_failing_is_replayed_by_hand_until_it_is_given_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path()).await?;
    server.install(&guest("misbehave")).await?;
    let misbehave = |mode: &str| {
        let step = json!({ "id": "misbehave", "skill": "hostile/misbehave", "input": { "mode": mode } });
        json!({ "goal": format!("Misbehave: {mode}"), "steps": [step] })
    };

    let id = campaign(&server, &misbehave("trap")).await?;
    let stuck = question(&server, &id, "stuck", None).await?;
    let task = text(&stuck["task"]);
    let next = server.post(&format!("/api/v1/tasks/{task}/retry"), &json!({})).await?;
    ensure!(next["task"]["id"] != stuck["task"], "{next:#}");
    let twice = server.request("POST", &format!("/api/v1/tasks/{task}/retry"), Some(&json!({}))).await?;
    ensure!(twice.0 == 409, "{twice:?}");
    let again = question(&server, &id, "stuck", Some(&stuck)).await?;
    // With another input it works.
    say(&server, &again, json!({ "decision": "approve", "edited": { "mode": "behave" } })).await?;
    ends(&server, &id, "completed").await?;

    let id = campaign(&server, &misbehave("trap")).await?;
    let stuck = question(&server, &id, "stuck", None).await?;
    say(&server, &stuck, json!({ "decision": "reject" })).await?;
    ends(&server, &id, "failed").await?;

    // Beyond the manifest: lifted once, it does it again; then it stays suspended.
    let id = campaign(&server, &misbehave("undeclared-tool")).await?;
    let security = question(&server, &id, "security", None).await?;
    say(&server, &security, json!({ "decision": "approve" })).await?;
    let again = question(&server, &id, "security", Some(&security)).await?;
    say(&server, &again, json!({ "decision": "reject" })).await?;
    ends(&server, &id, "rejected").await?;
    let skill = server.get("/api/v1/skills/hostile/misbehave").await?;
    ensure!(skill.to_string().contains("\"suspended\""), "{skill:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_planner_asks_is_answered_and_then_done() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = install_template(folder.path(), Social::Idempotent).await?;
    let server = Server::start(&data).await?;

    // What no input provides.
    let id = campaign(&server, &json!({ "goal": "Summarise these texts." })).await?;
    let asked = question(&server, &id, "question", None).await?;
    ensure!(decide(&server, &asked, json!({ "decision": "approve" })).await?.0 == 422, "a question wants an answer");
    ensure!(decide(&server, &asked, json!({ "decision": "approve", "edited": 7 })).await?.0 == 422, "{asked:#}");
    let texts = json!(["The river rises every spring. The town builds a wall against the river this year."]);
    say(&server, &asked, json!({ "decision": "approve", "edited": texts })).await?;
    finish(&server, &id).await?;

    // What no skill fits.
    let id = campaign(&server, &json!({ "goal": "Tune the old piano.", "inputs": { "texts": texts } })).await?;
    let asked = question(&server, &id, "question", None).await?;
    ensure!(decide(&server, &asked, json!({ "decision": "approve", "edited": "acme/none" })).await?.0 == 422);
    say(&server, &asked, json!({ "decision": "approve", "edited": "chimera/summarize" })).await?;
    finish(&server, &id).await?;

    // Not answered.
    let id = campaign(&server, &json!({ "goal": "Tune the old piano." })).await?;
    let asked = question(&server, &id, "question", None).await?;
    say(&server, &asked, json!({ "decision": "reject" })).await?;
    ends(&server, &id, "failed").await?;
    Ok(())
}

/// Says yes to whatever the judge is unsure of, until the campaign is completed.
async fn finish(server: &Server, id: &str) -> Result<()> {
    let path = format!("/api/v1/campaigns/{id}");
    loop {
        let waits = server
            .until(&path, "the campaign to end or to ask", |view| {
                let over = view["campaign"]["finished_at"].is_string();
                let waits = list(&view["tasks"]).iter().any(|task| task["state"] == "awaiting_approval");
                (over || waits).then_some(waits && !over)
            })
            .await?;
        if !waits {
            return ends(server, id, "completed").await.map(|_| ());
        }
        let asked = question(server, id, "verdict", None).await?;
        say(server, &asked, json!({ "decision": "approve" })).await?;
    }
}

/// An agent from outside, with a token of its own.
struct Outsider<'s> {
    server: &'s Server,
    client: reqwest::Client,
    token: String,
}

impl<'s> Outsider<'s> {
    async fn register(server: &'s Server, name: &str) -> Result<Self> {
        let agent = server.post("/api/v1/agents", &json!({ "name": name, "type": "worker" })).await?;
        let made = server.post(&format!("/api/v1/agents/{}/token", text(&agent["id"])), &json!({})).await?;
        let client = reqwest::Client::builder().timeout(chimera_tests::PATIENCE).build()?;
        Ok(Self { server, client, token: text(&made["token"]) })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.server.url)).bearer_auth(&self.token).json(body);
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or_default()))
    }

    /// Leases that task, once it can be had.
    async fn lease(&self, task: &str) -> Result<Value> {
        for _ in 0..400 {
            let (status, leased) = self.post("/api/v1/agents/lease", &json!({})).await?;
            ensure!(status == 200, "{status} {leased:#}");
            if leased["task"]["id"] == task {
                return Ok(leased);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        anyhow::bail!("task {task} could not be leased")
    }
}

/// A standalone task that the host's own worker cannot take, because it spins meanwhile.
async fn task_for_others(server: &Server, number: u32) -> Result<String> {
    let spin = format!("00000000-0000-4000-8000-0000000001{number:02}");
    let work = json!({ "skill": "hostile/misbehave", "input": { "mode": "endless-loop" } });
    server.post("/assign_task", &json!({ "task_id": spin, "spec": work, "priority": 9 })).await?;
    task_is(server, &spin, "running").await?;
    let id = format!("00000000-0000-4000-8000-0000000002{number:02}");
    let work = json!({ "skill": "hostile/misbehave", "input": { "mode": "behave" } });
    let body = json!({ "task_id": id, "spec": work });
    let made = server.post("/assign_task", &body).await?;
    ensure!(made == json!({ "status": "queued", "assigned_worker_id": null }), "{made:#}");
    ensure!(server.post("/assign_task", &body).await?["status"] == "queued", "the same task again is the same task");
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_from_outside_leases_keeps_and_reports() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start_with(folder.path(), &[("CHIMERA_WORKERS", "1")]).await?;
    server.install(&guest("misbehave")).await?;
    let (ann, bob) = (Outsider::register(&server, "ann").await?, Outsider::register(&server, "bob").await?);

    let id = task_for_others(&server, 1).await?;
    let (status, early) = ann.post("/evaluate_task", &json!({ "task_id": id })).await?;
    ensure!(status == 409, "nothing was reported yet: {status} {early:#}");
    let leased = ann.lease(&id).await?;
    let (lease, attempt) = (&leased["task"]["lease"]["id"], &leased["task"]["attempt"]);
    let beat = json!({ "task_id": id, "lease_id": lease, "attempt": attempt });
    let (status, alive) = ann.post("/api/v1/agents/heartbeat", &beat).await?;
    ensure!(status == 200 && alive["lease_until"].is_string(), "{status} {alive:#}");
    ensure!(bob.post("/api/v1/agents/heartbeat", &beat).await?.0 == 409, "it is not bob's");
    ensure!(server.request("POST", "/api/v1/agents/heartbeat", Some(&beat)).await?.0 == 403, "nor the operator's");
    let stale = json!({ "task_id": id, "lease_id": lease, "attempt": 7 });
    ensure!(ann.post("/api/v1/agents/heartbeat", &stale).await?.0 == 409);

    let report = |more: Value| {
        let mut report = json!({ "task_id": id, "result": { "ok": true }, "confidence": 0.9, "error_code": null });
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report
    };
    for (who, what, expected) in [
        (&bob, json!({}), 409),
        (&ann, json!({ "attempt": 7 }), 409),
        (&ann, json!({ "lease_id": id }), 409),
        (&ann, json!({ "confidence": 1.5 }), 422),
        (&ann, json!({ "confidence": null }), 422),
    ] {
        let (status, told) = who.post("/report_result", &report(what.clone())).await?;
        ensure!(status == expected, "{what}: {status} {told:#}");
    }
    let (status, told) = ann.post("/report_result", &report(json!({ "lease_id": lease, "attempt": attempt }))).await?;
    ensure!(status == 200 && told["hitl_required"] == false, "{status} {told:#}");
    ensure!(ann.post("/report_result", &report(json!({}))).await?.0 == 409, "reported before");
    ensure!(ann.post("/api/v1/agents/heartbeat", &beat).await?.0 == 409, "and no longer held");
    task_is(&server, &id, "approved").await?;
    let (status, worth) = ann.post("/evaluate_task", &json!({ "task_id": id })).await?;
    ensure!(status == 200 && worth["approved"] == true, "{status} {worth:#}");

    // What fails for a moment is run again, by whoever is idle then; what is unsure is a human's.
    let id = task_for_others(&server, 2).await?;
    ann.lease(&id).await?;
    let failed = json!({ "task_id": id, "result": null, "confidence": null, "error_code": "transient:no-network" });
    let (status, told) = ann.post("/report_result", &failed).await?;
    ensure!(status == 200 && told["status"] == "retry_wait", "{status} {told:#}");
    task_is(&server, &id, "approved").await?;
    let id = task_for_others(&server, 3).await?;
    bob.lease(&id).await?;
    let unsure = json!({ "task_id": id, "result": { "ok": true }, "confidence": 0.5 });
    let (status, told) = bob.post("/report_result", &unsure).await?;
    ensure!(status == 200 && told["hitl_required"] == true, "{status} {told:#}");
    let open = server
        .until("/api/v1/approvals?state=open", "the question", |open| list(open).into_iter().find(|q| q["task"] == id))
        .await?;
    say(&server, &open, json!({ "decision": "approve" })).await?;
    task_is(&server, &id, "approved").await
}

async fn task_is(server: &Server, id: &str, state: &str) -> Result<()> {
    let path = format!("/api/v1/tasks/{id}");
    server
        .until(&path, &format!("task {id} to be {state}"), |view| (view["task"]["state"] == state).then_some(()))
        .await
        .context("a task from outside")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_token_is_taken_back_is_refused_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path()).await?;
    let (ann, bob) = (Outsider::register(&server, "ann").await?, Outsider::register(&server, "bob").await?);
    let asks = async |who: &Outsider<'_>| who.post("/api/v1/agents/lease", &json!({})).await.map(|(status, _)| status);
    ensure!((asks(&ann).await?, asks(&bob).await?) == (200, 200));
    let revoke = |name: &str| chimera(folder.path(), &["agent", "revoke", name]);
    for expected in ["The token of ann was taken back.", "ann has no token that could be taken back."] {
        let output = revoke("ann");
        ensure!(output.status.success() && said(&output).contains(expected), "{}", said(&output));
        ensure!((asks(&ann).await?, asks(&bob).await?) == (401, 200));
    }
    let output = revoke("nobody");
    ensure!(output.status.code() == Some(1) && said(&output).contains("`nobody`"), "{}", said(&output));
    Ok(())
}
