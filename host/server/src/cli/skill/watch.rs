//! `chimera skill run --watch`: builds and runs a skill again whenever something of it changes.
//!
//! It looks at the files' times instead of asking the system to be told, which works the same on every file system, and
//! waits until they rest. A build or run that a change overtakes is dropped; no failure ends it, only Ctrl-C does. Called by
//! the dispatcher.

use super::{check, component, sandbox};
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::inputs::json_or_file;
use crate::cli::output::{Format, Style, say, span, tell};
use crate::cli::stop::Stop;
use chimera_core::digest::Digest;
use chimera_core::task::{Outcome, Usage};
use chimera_sandbox::Sandbox;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Most files that are looked at, and how deep.
const MAX_FILES: usize = 20_000;
const MAX_DEPTH: usize = 16;
/// What builds write, and what is no source.
const LEFT_OUT: &[&str] = &["target", "node_modules", "__pycache__", "venv", "Cargo.lock"];

/// What a skill is made of, as it was at one moment: size and time of every file.
type Look = BTreeMap<PathBuf, (u64, SystemTime)>;

/// What is looked at.
struct Watched {
    what: PathBuf,
    input: Option<PathBuf>,
}

impl Watched {
    fn look(&self) -> Look {
        let mut found = Look::new();
        for path in std::iter::once(&self.what).chain(&self.input) {
            note(path, 0, &mut found);
        }
        found
    }

    /// The next look that differs and rests: somebody may still be writing.
    async fn changed(&self, before: &Look) -> Look {
        let mut last = before.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.look();
            if now != *before && now == last {
                return now;
            }
            last = now;
        }
    }
}

fn note(path: &Path, depth: usize, found: &mut Look) {
    let Ok(about) = std::fs::symlink_metadata(path) else { return };
    if about.is_file() {
        found.insert(path.to_owned(), (about.len(), about.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_left_out = name.to_string_lossy().starts_with('.') || LEFT_OUT.iter().any(|left| name == *left);
        if !is_left_out && depth < MAX_DEPTH && found.len() < MAX_FILES {
            note(&entry.path(), depth + 1, found);
        }
    }
}

/// When the newest of what differs was saved; none if only something went away.
fn saved(before: &Look, now: &Look) -> Option<SystemTime> {
    now.iter().filter(|(path, state)| before.get(*path) != Some(*state)).map(|(_, (_, time))| *time).max()
}

/// Runs it now and after every change, until Ctrl-C.
pub(super) async fn run(env: &Env, what: &Path, input: &str) -> CliResult {
    if !what.exists() {
        let problem = format!("there is no {}", what.display());
        return Err(CliError::usage(problem, "name a component, or a skill's folder"));
    }
    let from_file = input.strip_prefix('@').map(PathBuf::from);
    if from_file.is_none() {
        // What cannot become right by a change is told at once.
        json_or_file(input, "input")?;
    }
    let watched = Watched { what: what.to_owned(), input: from_file };
    let sandbox = sandbox(env.config()?.sandbox_confinement.value)?;
    let mut stop = Stop::new()?;
    let mut seen = watched.look();
    let mut since = SystemTime::now();
    loop {
        let next = tokio::select! {
            biased;
            _ = stop.heard() => return Ok(Exit::Done),
            next = watched.changed(&seen) => {
                tell(&Style::stderr().dim("Changed meanwhile: starting again."));
                next
            }
            done = once(env, what, input, &sandbox) => {
                show(env, done, since.elapsed().unwrap_or_default());
                tokio::select! {
                    _ = stop.heard() => return Ok(Exit::Done),
                    next = watched.changed(&seen) => next,
                }
            }
        };
        since = saved(&seen, &next).unwrap_or_else(SystemTime::now);
        seen = next;
    }
}

async fn once(env: &Env, what: &Path, input: &str, sandbox: &Sandbox) -> CliResult<(Outcome, Usage)> {
    let input = json_or_file(input, "input")?;
    let component = component(env, what, sandbox).await?;
    // What was built before is not run again.
    let digest = Digest::of(&component.bytes);
    for other in sandbox.loaded().iter().filter(|other| other.digest != digest) {
        sandbox.unload(&other.digest);
    }
    check::run_component(&component, sandbox, input).await
}

/// One document a run with `--json`, each on a line of its own.
fn show(env: &Env, done: CliResult<(Outcome, Usage)>, took: Duration) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match (done, env.format) {
        (Ok((outcome, usage)), Format::Human) => check::show(env, &outcome, usage),
        (Err(error), Format::Human) => error.print(),
        (Ok((outcome, usage)), Format::Json) => {
            say(&json!({ "outcome": outcome, "usage": usage, "took_ms": took_ms }).to_string());
            return;
        }
        (Err(error), Format::Json) => {
            say(&json!({ "error": error.what, "fix": error.fix, "took_ms": took_ms }).to_string());
            return;
        }
    }
    tell(&Style::stderr().dim(&format!("{} from save to answer; waiting for changes, Ctrl-C ends it.", span(took))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_it_rests_and_builds_are_no_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("src/lib.rs");
        std::fs::create_dir_all(folder.path().join("src")).expect("a folder");
        std::fs::create_dir_all(folder.path().join("target")).expect("a folder");
        std::fs::write(&source, "one").expect("written");
        let watched = Watched { what: folder.path().to_owned(), input: None };
        let before = watched.look();
        assert_eq!(before.keys().collect::<Vec<_>>(), [&source]);
        std::fs::write(folder.path().join("target/made.wasm"), "x").expect("written");
        std::fs::write(folder.path().join("Cargo.lock"), "x").expect("written");
        assert_eq!(watched.look(), before);
        assert_eq!(saved(&before, &before), None);

        let writing = async {
            for text in ["one more", "one more, and", "one more, and another"] {
                std::fs::write(&source, text).expect("written");
                tokio::time::sleep(LOOK / 2).await;
            }
        };
        let (after, ()) = tokio::join!(watched.changed(&before), writing);
        assert_eq!(after[&source].0, "one more, and another".len() as u64, "the last of several writes");
        assert_eq!(saved(&before, &after), Some(after[&source].1));
    }
}
