//! What is being compiled at the moment, for those who wait and want to know for what.
//!
//! It measures and tells; nothing is decided by it. Kept by the sandbox while it prepares, read through
//! [`crate::Sandbox::compiling`].

use chimera_core::digest::Digest;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How far a component has come on its way to machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompileStage {
    /// Its bytes are looked at.
    Validating,
    /// Others are compiled first.
    Waiting,
    /// It is compiled: by far the longest.
    Compiling,
    /// The machine code is written to the cache and loaded.
    Keeping,
}

/// A component that is being compiled.
#[derive(Debug, Clone, Copy)]
pub struct Compiling {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: usize,
    /// How far it is.
    pub stage: CompileStage,
    /// When it was asked for.
    pub since: Instant,
}

/// All that are being compiled.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<HashMap<Digest, Compiling>>>);

impl Progress {
    /// Begins to tell of a component, until the value is dropped.
    pub(crate) fn begin(&self, digest: Digest, bytes: usize) -> Telling {
        let compiling = Compiling { digest, bytes, stage: CompileStage::Validating, since: Instant::now() };
        self.with(|all| all.insert(digest, compiling));
        Telling { progress: self.clone(), digest }
    }

    /// Those asked for first come first.
    pub(crate) fn all(&self) -> Vec<Compiling> {
        let mut all: Vec<Compiling> = self.with(|all| all.values().copied().collect());
        all.sort_unstable_by_key(|compiling| compiling.since);
        all
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Digest, Compiling>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One component that is told of.
pub(crate) struct Telling {
    progress: Progress,
    digest: Digest,
}

impl Telling {
    pub(crate) fn stage(&self, stage: CompileStage) {
        self.progress.with(|all| {
            if let Some(compiling) = all.get_mut(&self.digest) {
                compiling.stage = stage;
                let (bytes, after) = (compiling.bytes, compiling.since.elapsed());
                tracing::info!(digest = %self.digest, bytes, ?stage, ?after, "preparing a component");
            }
        });
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.progress.with(|all| all.remove(&self.digest));
    }
}
