//! The guests of the benchmarks: built from the checkout, and wrapped into requests.
//!
//! Guests in other languages than Rust are measured where they were built before; a benchmark fetches no tools. Called by
//! the benchmarks.

use super::report::checkout;
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use crate::cli::output::tell;
use crate::cli::skill::build::{build, built_before};
use crate::cli::skill::guest::Chatter;
use chimera_core::digest::Digest;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{Budget, HostPorts};
use chimera_registry::MAX_COMPONENT_BYTES;
use chimera_sandbox::{Prepared, RunRequest, Sandbox};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A guest, and what it is given.
#[derive(Clone)]
pub(super) struct Guest {
    /// The language that it is written in.
    pub(super) language: &'static str,
    /// The component.
    pub(super) component: PathBuf,
    /// What it is given.
    pub(super) input: Value,
    manifest: Arc<Manifest>,
}

/// Guests in other languages: language, name, version, input.
fn others() -> [(&'static str, &'static str, Value); 2] {
    let text = "The council voted to rebuild the old stone bridge. The bridge was closed in March after cracks were \
                found in two of its arches. Rebuilding it will take eighteen months.";
    [
        ("python", "chimera/keywords", json!({ "texts": [text] })),
        ("javascript", "chimera/readability", json!({ "text": text })),
    ]
}

/// A guest of `tests/guests`, built if it has changed.
pub(super) async fn built(env: &Env, name: &str, input: Value) -> CliResult<Guest> {
    let folder = checkout().join("tests/guests").join(name);
    let folder = folder.canonicalize().map_err(|error| CliError::unreadable(&folder, &error))?;
    let sandbox = crate::cli::skill::sandbox(env.config()?.sandbox_confinement.value)?;
    tell(&format!("building the guest {name}"));
    let built = build(env, &folder, &sandbox, Chatter::Hidden).await?;
    Ok(Guest { language: "rust", component: built.path, input, manifest: Arc::new(built.manifest) })
}

/// The guests in other languages that were built before.
pub(super) fn in_other_languages() -> Vec<Guest> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("skills/target"), PathBuf::from);
    let mut guests = Vec::new();
    for (language, name, input) in others() {
        match built_before(&target.join("chimera"), name, "0.1.0") {
            Ok(built) => {
                let manifest = Arc::new(built.manifest);
                guests.push(Guest { language, component: built.path, input, manifest });
            }
            Err(_) => tell(&format!("{name} ({language}) was not built: `cargo xtask skills` does; not measured")),
        }
    }
    guests
}

impl Guest {
    /// The component, ready to be called.
    pub(super) async fn prepare(&self, sandbox: &Sandbox) -> CliResult<Arc<Prepared>> {
        let wasm = read_capped(&self.component, MAX_COMPONENT_BYTES as u64)?;
        sandbox.prepare(&Digest::of(&wasm), &wasm).await.map_err(|failure| {
            CliError::failed(format!("{} cannot be prepared: {failure}", self.component.display()), "build it again")
        })
    }

    /// One request, as the executor makes it.
    pub(super) fn request(&self, input: Value) -> RunRequest {
        RunRequest {
            task_id: "bench".to_owned(),
            campaign: None,
            input,
            limits: self.manifest.limits,
            manifest: self.manifest.clone(),
            deadline: Instant::now() + Duration::from_secs(30),
            skill_calls: Budget::MAX_CALLS,
        }
    }
}

/// Ports that deny everything but keep a journal, which is thrown away.
pub(super) fn ports() -> HostPorts {
    HostPorts { seed: 1, ..HostPorts::deny_all() }
}
