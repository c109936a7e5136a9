//! `chimera index rebuild`: fills the running server's search index from its database again.
//!
//! It asks the server, which does the work, and tells how far it is. Called by the dispatcher.

use super::args::IndexCommand;
use super::error::{CliError, CliResult, Exit};
use super::output::{count, say, tell};
use super::{Env, read};
use chimera_index::{IndexStatus, Rebuilt, WeaviateStatus};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the server is asked how far it is.
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// How often a line tells it where there is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn run(env: Env, command: IndexCommand) -> CliResult {
    let IndexCommand::Rebuild = command;
    let client = env.client()?;
    let mut status: IndexStatus = read(client.post("/api/v1/index/rebuild", &json!({})).await?)?;
    let mut shown = Shown::new();
    while let Some(rebuilding) = status.rebuilding {
        shown.update(rebuilding.done, rebuilding.total);
        tokio::time::sleep(ASKED_EVERY).await;
        status = read(client.get("/api/v1/index", &[]).await?)?;
    }
    shown.finish();
    if let Some(problem) = status.failed {
        return Err(CliError::failed(
            format!("the index could not be filled: {problem}"),
            "see `chimera doctor` for the state of the data folder",
        ));
    }
    env.show(&json!(status), |_| {
        if let Some(Rebuilt { skills, memories, removed, .. }) = &status.last {
            let (skills, memories, removed) = (count(*skills), count(*memories), count(*removed));
            say(&format!(
                "{skills} versions of skills and {memories} memories are in the index; {removed} were too much"
            ));
        }
        match &status.weaviate {
            WeaviateStatus::Off => {}
            WeaviateStatus::Up => say("Weaviate has them too"),
            WeaviateStatus::CatchingUp { .. } => say("Weaviate is being filled"),
            WeaviateStatus::Down { why, .. } => say(&format!("Weaviate is down and will be filled later: {why}")),
        }
    });
    Ok(Exit::Done)
}

/// A bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} indexed");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, told: Instant::now() }
    }

    fn update(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None if self.told.elapsed() >= TOLD_EVERY => {
                self.told = Instant::now();
                tell(&format!("{} of {} indexed", count(done), count(total)));
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
