//! Driving one campaign to its end, through restarts and questions.
//!
//! The driver plays the operator: it creates the campaign, answers what is asked, and starts the server again whenever
//! it is gone. It decides nothing that an operator would not. Called by the fault tests.

use crate::{PATIENCE, Server, install_template};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Does `social` take an idempotency key?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Social {
    /// It does: an unknown outcome may be asked again.
    Idempotent,
    /// It does not: an unknown outcome is a question to the human.
    Forgetful,
}

/// How a campaign ended for its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The campaign is over, in this state.
    Finished(String),
    /// A question is open that only a human can answer, of this kind.
    Asked(String),
}

/// The goal of every campaign here: five steps, the last of which publishes.
pub const GOAL: &str = "Find what people are talking about in these posts, summarise the main trends, draft a post of at most 280 \
     characters, check it against our policy and publish it.";

/// Posts enough for clear trends.
pub fn inputs() -> Value {
    let topics = [
        "The new tram line finally opened today and the ride to the harbour takes ten minutes",
        "Riding the new tram line to the harbour this morning, so quiet and so fast",
        "Crowded platforms on the new tram line, but everybody seems happy about it",
        "Heat pumps are the talk of our street, three neighbours ordered one this week",
        "Our heat pump arrived, the installer says the waiting list for heat pumps is six months",
        "Why is nobody talking about the library closing on Sundays? We need the library",
        "Signed the petition to keep the library open on Sundays",
        "The bakery at the harbour sells the best rye bread in town",
    ];
    let posts: Vec<Value> = (0..24)
        .map(|index| json!({ "id": format!("p{index}"), "text": format!("{} ({index})", topics[index % topics.len()]), "likes": index % 7 }))
        .collect();
    json!({ "posts": posts, "policy": { "max_chars": 280, "banned_terms": ["guaranteed profit"], "max_hashtags": 3, "allow_links": false } })
}

/// One data folder with one campaign in it.
pub struct Drive {
    /// The folder.
    pub data: PathBuf,
    server: Server,
    campaign: Option<String>,
    /// How often the server was started again.
    pub restarts: u32,
    /// Titles of all questions that were approved.
    pub approved: Vec<String>,
}

impl Drive {
    /// Copies the prepared folder and starts a server in it with these environment variables.
    ///
    /// # Errors
    /// When the template cannot be made or the program cannot be started.
    pub async fn start(folder: &Path, social: Social, environment: &[(&str, &str)]) -> Result<Self> {
        let data = install_template(folder, social).await?;
        let server = Server::spawn(&data, environment)?;
        Ok(Self { data, server, campaign: None, restarts: 0, approved: Vec::new() })
    }

    /// The server as it is now.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The campaign, once there is one.
    pub fn campaign_id(&self) -> Option<&str> {
        self.campaign.as_deref()
    }

    /// Kills the server.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts the server again.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.server = Server::spawn(&self.data, &[])?;
        Ok(())
    }

    /// Lets the campaign run for a while, answering questions on the way.
    ///
    /// # Errors
    /// When something goes wrong that is not the server being gone.
    pub async fn run_for(&mut self, span: Duration) -> Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            // A request that fails because the server is gone is what these tests are about.
            let _ = tokio::time::timeout_at(until.into(), self.step()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Carries the campaign to its end, starting the server again whenever it is gone.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn finish(&mut self) -> Result<End> {
        let started = Instant::now();
        let mut last = String::new();
        while started.elapsed() < PATIENCE {
            if self.server.has_ended() {
                self.restarts += 1;
                ensure!(self.restarts < 50, "the server keeps dying:\n{}", self.server.log_tail());
                self.server = Server::spawn(&self.data, &[])?;
            }
            match self.step().await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        bail!("the campaign did not end; last error: {last}\n{}\n{}", self.describe().await, self.server.log_tail())
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        self.server.wait_until_ready().await
    }

    /// Where the campaign's steps and tasks are, for an error message.
    pub async fn describe(&self) -> String {
        let Some(id) = &self.campaign else { return "there is no campaign".to_owned() };
        let view = self.server.get(&format!("/api/v1/campaigns/{id}")).await.unwrap_or_default();
        let mut lines = vec![format!("campaign {}", view["campaign"]["state"])];
        for step in list(&view["steps"]) {
            lines.push(format!("step {} {} task {}", step["key"], step["state"], step["task"]));
        }
        for task in list(&view["tasks"]) {
            let picked = [
                "id",
                "state",
                "attempt",
                "epoch",
                "lease",
                "deaths",
                "retries",
                "run_after",
                "waiting_on",
                "failure",
                "updated_at",
            ];
            lines.push(picked.map(|name| format!("{name}={}", task[name])).join(" "));
        }
        lines.join("\n")
    }

    /// One look, and one action if there is one to take.
    async fn step(&mut self) -> Result<Option<End>> {
        if self.server.url.is_empty() {
            self.server.wait_until_ready().await?;
        }
        let id = self.campaign().await?;
        let open = self.server.get(&format!("/api/v1/approvals?state=open&campaign={id}")).await?;
        for approval in list(&open) {
            let kind = text(&approval["kind"]);
            // Few posts make for low confidence: then the judge asks, and the operator is content.
            if kind != "effect" && kind != "verdict" {
                return Ok(Some(End::Asked(kind)));
            }
            let path = format!("/api/v1/approvals/{}/decide", text(&approval["id"]));
            self.server.post(&path, &json!({ "decision": "approve" })).await?;
            self.approved.push(text(&approval["title"]));
        }
        let view = self.server.get(&format!("/api/v1/campaigns/{id}")).await?;
        let state = text(&view["campaign"]["state"]);
        Ok(matches!(state.as_str(), "completed" | "rejected" | "failed" | "cancelled").then_some(End::Finished(state)))
    }

    async fn campaign(&mut self) -> Result<String> {
        if let Some(id) = &self.campaign {
            return Ok(id.clone());
        }
        // A create whose answer was lost may have happened: the operator looks before asking again.
        let known = self.server.get("/api/v1/campaigns").await?;
        let id = match list(&known).first() {
            Some(campaign) => text(&campaign["id"]),
            None => {
                let body = json!({ "title": "fault test", "goal": GOAL, "inputs": inputs() });
                let made = self.server.post("/api/v1/campaigns", &body).await?;
                made["id"]
                    .as_str()
                    .or(made["campaign"]["id"].as_str())
                    .context("the new campaign has no id")?
                    .to_owned()
            }
        };
        self.campaign = Some(id.clone());
        Ok(id)
    }

    /// Checks what must hold after any fault: no task lost, the audit chain valid. Gives the number of posts that
    /// `social` holds.
    ///
    /// # Errors
    /// With what does not hold.
    pub async fn check(&mut self) -> Result<usize> {
        let id = self.campaign().await?;
        let view = self.server.get(&format!("/api/v1/campaigns/{id}")).await?;
        let tasks = list(&view["tasks"]);
        let known: Vec<String> = tasks.iter().map(|task| text(&task["id"])).collect();
        for step in list(&view["steps"]) {
            if let Some(task) = step["task"].as_str() {
                ensure!(known.iter().any(|id| id == task), "task {task} of step {} is lost", step["key"]);
            }
        }
        let audit = self.server.get("/api/v1/audit/verify").await?;
        ensure!(audit["valid"] == json!(true), "the audit chain is broken: {audit:#}");
        Ok(chimera_mcp::social::read_posts(&self.data.join("social.json")).map_or(0, |posts| posts.len()))
    }
}

/// The elements of an array, also when it is the one array of an object (`{tasks: […]}`).
pub fn list(value: &Value) -> Vec<Value> {
    let inner = value.as_object().and_then(|map| map.values().find_map(Value::as_array));
    value.as_array().or(inner).cloned().unwrap_or_default()
}

/// The text of a JSON string, or nothing.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
