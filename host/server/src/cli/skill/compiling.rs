//! Tells people who wait for a long compilation that it goes on, and how far it is.
//!
//! A spinner on a terminal, a plain line every few seconds elsewhere, always on standard error; quick ones are not
//! mentioned. It only looks: failing to see is no reason to fail. Called by the commands that build and install.

use crate::cli::client::Client;
use crate::cli::output::{bytes, tell};
use chimera_core::digest::Digest;
use chimera_sandbox::Sandbox;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::future::Future;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(3);

/// Waits for work in a sandbox of this process.
pub(crate) async fn told_by<T>(sandbox: &Sandbox, work: impl Future<Output = T>) -> T {
    let look = async || {
        let compiling = sandbox.compiling();
        let first = compiling.first()?;
        Some(json!({ "stage": first.stage, "bytes": first.bytes, "seconds": first.since.elapsed().as_secs() }))
    };
    told(look, work).await
}

/// Waits for the server's answer to an upload of the component with this digest.
pub(crate) async fn told_by_server<T>(client: &Client, digest: &Digest, work: impl Future<Output = T>) -> T {
    let digest = digest.to_string();
    let look = async || {
        let found = client.get("/api/v1/skills/compiling", &[]).await.ok()?;
        let all = found.get("compiling")?.as_array()?;
        all.iter().find(|one| one["digest"].as_str() == Some(&digest)).cloned()
    };
    told(look, work).await
}

async fn told<T>(mut look: impl AsyncFnMut() -> Option<Value>, work: impl Future<Output = T>) -> T {
    let mut shown = Shown::new();
    let telling = async {
        loop {
            tokio::time::sleep(LOOK).await;
            shown.show(look().await.as_ref());
        }
    };
    tokio::select! {
        done = work => done,
        () = telling => unreachable!("it looks forever"),
    }
}

/// What people see of it.
struct Shown {
    spinner: Option<ProgressBar>,
    last_line: Option<Instant>,
    is_terminal: bool,
}

impl Shown {
    fn new() -> Self {
        Self { spinner: None, last_line: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, found: Option<&Value>) {
        let Some(line) = found.map(line) else {
            if let Some(spinner) = self.spinner.take() {
                spinner.finish_and_clear();
            }
            return;
        };
        if self.is_terminal {
            self.spinner.get_or_insert_with(spinner).set_message(line);
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE) {
            self.last_line = Some(Instant::now());
            tell(&line);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show(None);
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn line(found: &Value) -> String {
    let doing = match found["stage"].as_str() {
        Some("waiting") => "waiting for its turn to be compiled",
        Some("compiling") => "compiling",
        Some("keeping") => "keeping the machine code",
        _ => "validating",
    };
    let (size, seconds) = (found["bytes"].as_u64().unwrap_or(0), found["seconds"].as_u64().unwrap_or(0));
    format!("{doing} ({} component, {seconds} s)", bytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_stage_size_and_time() {
        let line = line(&json!({ "stage": "compiling", "bytes": 18 << 20, "seconds": 7 }));
        assert!(line.starts_with("compiling (18") && line.ends_with("component, 7 s)"), "{line}");
    }

    #[tokio::test]
    async fn the_work_is_waited_for_whatever_is_seen() {
        assert_eq!(told(async || None, async { 7 }).await, 7);
    }
}
