//! Versions change while tasks run: nothing fails for it, what runs ends on its own version, old code leaves memory, and a
//! version on trial that fails is withdrawn by itself.
//!
//! The load is 200 tasks a second, of which a debug build manages fewer and says how many; where times are held against
//! their bounds it is 1,000 for ten seconds and more, and must be kept up.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_core::ids::{IdSource, SystemIds};
use chimera_core::manifest::Manifest;
use chimera_tests::campaign::{list, text};
use chimera_tests::{PATIENCE, Server, guest, is_timed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SKILL: &str = "test/hot";
/// How long the load goes on at least where it must be kept up.
const SUSTAINED: Duration = Duration::from_secs(10);
/// How long giving a task takes at most: the answer waits for a worker to take it.
const GIVING: Duration = Duration::from_millis(300);

/// Tasks a second.
fn rate() -> f64 {
    if is_timed() { 1000.0 } else { 200.0 }
}

/// The guest under another name and version; `output` is the schema that its output must fit.
fn version(folder: &Path, version: &str, output: Value) -> Result<PathBuf> {
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": SKILL, "version": version, "summary": "Behaves.", "license": "MIT", "effects": "write" },
        "io": { "input": { "type": "object" }, "output": output },
        "capabilities": { "mcp": [{ "slot": "social", "tools": ["publish_post"], "reason": "to be denied" }] },
    }))?;
    let path = folder.join(format!("hot-{version}.wasm"));
    std::fs::write(&path, chimera_registry::embed_manifest(&std::fs::read(guest("misbehave"))?, &manifest))?;
    Ok(path)
}

/// Keeps tasks coming until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    given: Arc<AtomicU32>,
    workers: Vec<tokio::task::JoinHandle<Result<()>>>,
    started: Instant,
}

impl Load {
    fn start(server: &Arc<Server>) -> Self {
        let rate = rate();
        let (stop, given) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        // As many as keep up the rate when every answer comes late, but not as many as a server closes the door on.
        let loaders = (rate * GIVING.as_secs_f64()).ceil().clamp(1.0, 200.0);
        let every = Duration::from_secs_f64(loaders / rate);
        let workers = (0..loaders as u32)
            .map(|_| {
                let (server, stop, given) = (server.clone(), stop.clone(), given.clone());
                tokio::spawn(async move {
                    let mut tick = tokio::time::interval(every);
                    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    while !stop.load(Ordering::Relaxed) {
                        tick.tick().await;
                        give(&server).await?;
                        given.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, given, workers, started: Instant::now() }
    }

    /// Waits until that many more were given.
    async fn more(&self, tasks: u32) -> Result<()> {
        let (from, started) = (self.given.load(Ordering::Relaxed), Instant::now());
        while self.given.load(Ordering::Relaxed) < from + tasks {
            ensure!(started.elapsed() < PATIENCE, "no more tasks could be given");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        if is_timed() {
            tokio::time::sleep(SUSTAINED.saturating_sub(self.started.elapsed())).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        let given = self.given.load(Ordering::Relaxed);
        let achieved = f64::from(given) / self.started.elapsed().as_secs_f64();
        println!("{given} tasks, {achieved:.0} a second");
        ensure!(!is_timed() || achieved >= 0.98 * rate(), "only {achieved:.0} tasks a second of {:.0}", rate());
        Ok(())
    }
}

/// Gives one task; its id.
async fn give(server: &Server) -> Result<String> {
    let id = SystemIds.next_uuid().to_string();
    let spec = json!({ "skill": SKILL, "input": { "mode": "behave" } });
    let body = json!({ "task_id": id, "spec": spec, "priority": 5, "deadline": null });
    server.post("/assign_task", &body).await?;
    Ok(id)
}

/// The version that a new task gets.
async fn version_of_new(server: &Server) -> Result<String> {
    let id = give(server).await?;
    version_of(server, &id).await
}

async fn version_of(server: &Server, task: &str) -> Result<String> {
    Ok(text(&server.get(&format!("/api/v1/tasks/{task}")).await?["spec"]["skill"]["version"]))
}

async fn route(server: &Server, what: &str, body: Value) -> Result<Value> {
    Ok(server.post(&format!("/api/v1/skills/{SKILL}/{what}"), &body).await?["route"].clone())
}

/// Waits until a version's code is gone; how long after its last run.
async fn gone(server: &Server, version: &str) -> Result<Duration> {
    let started = Instant::now();
    let mut last_run = started;
    while started.elapsed() < PATIENCE {
        let loaded = list(&server.get("/api/v1/skills/loaded").await?["loaded"]);
        let now = Instant::now();
        match loaded.iter().find(|code| code["version"] == version) {
            Some(code) => {
                ensure!(code["code_bytes"].as_u64().unwrap() > 1000, "{code}");
                last_run = now.checked_sub(Duration::from_millis(code["idle_ms"].as_u64().unwrap())).unwrap_or(started);
            }
            None => return Ok(now - last_run),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("{version} stays in memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_change_under_load_and_nothing_fails() -> Result<()> {
    let (data, made) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = Arc::new(Server::start_with(data.path(), &[("CHIMERA_WORKERS", "32")]).await?);
    let fits = json!({ "type": "object" });
    server.install(&version(made.path(), "1.0.0", fits.clone())?).await?;
    ensure!(version_of_new(&server).await? == "1.0.0");
    let load = Load::start(&server);
    load.more(50).await?;

    // The newest version takes over by being installed; the old one leaves memory after its last task.
    let installed = server.install(&version(made.path(), "2.0.0", fits)?).await?;
    ensure!(
        installed["route"]["active"] == "2.0.0" && installed["route"]["previous"] == json!(["1.0.0"]),
        "{installed:#}"
    );
    ensure!(version_of_new(&server).await? == "2.0.0");
    let after = gone(&server, "1.0.0").await?;
    println!("1.0.0 was gone {} ms after its last task", after.as_millis());
    ensure!(after < Duration::from_secs(1), "{after:?}");
    load.more(50).await?;

    let back = route(&server, "rollback", json!({})).await?;
    ensure!(back["active"] == "1.0.0", "{back:#}");
    ensure!(version_of_new(&server).await? == "1.0.0");
    let after = gone(&server, "2.0.0").await?;
    println!("2.0.0 was gone {} ms after its last task", after.as_millis());
    ensure!(after < Duration::from_secs(1), "{after:?}");
    load.more(50).await?;
    route(&server, "activate", json!({ "version": "2.0.0" })).await?;
    ensure!(version_of_new(&server).await? == "2.0.0");

    // Its output never fits its own schema.
    let bad = json!({ "type": "object", "required": ["never"] });
    let path = version(made.path(), "3.0.0", bad)?;
    let (status, installed) = install_without(&server, &path).await?;
    ensure!(status == 201 && installed["route"]["active"] == "2.0.0", "{status} {installed:#}");
    let trial = json!({ "version": "3.0.0", "share": 20, "max_failures": 0.1, "min_runs": 10 });
    ensure!(route(&server, "canary", trial).await?["canary"]["share"] == 20);
    let path = format!("/api/v1/skills/{SKILL}");
    server.until(&path, "the end of the trial", |skill| skill["route"]["canary"].is_null().then_some(())).await?;
    load.more(50).await?;
    ensure!(version_of_new(&server).await? == "2.0.0");
    let after = gone(&server, "3.0.0").await?;
    ensure!(after < Duration::from_secs(1), "{after:?}");
    load.end().await?;

    check_outcomes(&server).await
}

async fn install_without(server: &Server, path: &Path) -> Result<(u16, Value)> {
    server.install_with(path, "?activate=false").await
}

/// What the audit log says of trials that were ended by their failures; tasks without a campaign are in the same chain.
async fn withdrawals(server: &Server) -> Result<Vec<Value>> {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let events = list(&server.get(&format!("/api/v1/audit?limit=1000&after={after}")).await?["events"]);
        let Some(last) = events.last() else { return Ok(found) };
        after = last["seq"].as_u64().unwrap();
        found.extend(events.into_iter().filter(|event| event["action"] == "skill.canary_rolled_back"));
    }
}

/// Every task is done, but for those that fell on the version on trial; the trial's end is in the audit log.
async fn check_outcomes(server: &Server) -> Result<()> {
    for state in ["pending", "queued", "running", "judging", "retry_wait"] {
        let path = format!("/api/v1/tasks?state={state}&limit=1");
        server.until(&path, "the last task", |tasks| list(&tasks["tasks"]).is_empty().then_some(())).await?;
    }
    for state in ["rejected", "cancelled", "awaiting_approval"] {
        let tasks = list(&server.get(&format!("/api/v1/tasks?state={state}")).await?["tasks"]);
        ensure!(tasks.is_empty(), "{state}: {:#}", tasks[0]);
    }
    let failed = list(&server.get("/api/v1/tasks?state=failed&limit=1000").await?["tasks"]);
    println!("{} tasks failed on the version on trial", failed.len());
    ensure!(failed.len() >= 10, "the trial had {} failures", failed.len());
    for task in &failed {
        let version = version_of(server, task["id"].as_str().unwrap()).await?;
        ensure!(version == "3.0.0", "failed on {version}: {task:#}");
        ensure!(task["failure"]["code"] == "output-invalid", "{task:#}");
    }
    let withdrawn = withdrawals(server).await?;
    ensure!(withdrawn.len() == 1, "{withdrawn:#?}");
    let detail = &withdrawn[0]["detail"];
    ensure!(detail["canary"]["runs"].as_u64() >= Some(10) && detail["failure_rate"] == 1.0, "{detail:#}");
    ensure!(detail["active"] == "2.0.0", "{detail:#}");
    ensure!(server.get("/api/v1/audit/verify").await?["valid"] == true);
    Ok(())
}
