//! The registry: what lets a component in, keeps it, and hands it out to be run.
//!
//! Admission recomputes everything from the bytes and runs the skill's own self-tests before a version exists; a
//! version never changes afterwards. It grants nothing and reaches nothing outside: an operator's grant and the gateway
//! do. Called by the server (install, hot-load, search index) and by `chimera skill build`, `test` and `install`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod assemble;
mod blobs;
mod fitting;
mod follow;
mod inspect;
mod install;
mod layered;
mod load;
mod refusal;
mod route;
mod scan;
mod section;
mod selftest;
mod shape;
mod toll;
mod widening;

pub use assemble::assemble_manifest;
pub use blobs::{FolderBlobs, MAX_BLOB_BYTES};
pub use fitting::{FITTING_TIME, Unfit, check_value, check_value_soon};
pub use follow::Warm;
pub use inspect::{Inspection, InterfaceName, Survey, inspect, survey};
pub use install::{ConsentError, InstallError, InstallOutcome, Installed};
pub use layered::LayeredBlobs;
pub use load::LoadedSkill;
pub use refusal::{Refusal, Rule};
pub use route::{Activation, LoadedCode, RouteError};
pub use scan::{Finding, FindingRule, scan};
pub use section::embed_manifest;
pub use selftest::{SelfTestProblem, SelfTestResult, run_selftests};
pub use widening::widening;

use chimera_core::audit::Actor;
use chimera_core::change::Context;
use chimera_core::clock::Clock;
use chimera_core::digest::Digest;
use chimera_core::ids::IdSource;
use chimera_core::ports::{Blobs, SkillIndex, Truth};
use chimera_core::skill::SkillRef;
use chimera_sandbox::Sandbox;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Largest component in bytes (32 MiB; a Python skill is about 18 MB).
pub const MAX_COMPONENT_BYTES: usize = 32 << 20;

/// Installs, keeps and loads skills over the truth, a blob store, the sandbox and the index.
pub struct Registry {
    truth: Arc<dyn Truth>,
    blobs: Arc<dyn Blobs>,
    sandbox: Sandbox,
    index: Arc<dyn SkillIndex>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// One installation at a time: each looks at the versions there are before it adds its own.
    installing: tokio::sync::Mutex<()>,
    /// Which versions the code in the sandbox's memory was loaded as.
    loaded_as: Mutex<HashMap<Digest, SkillRef>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry over these ports. Call [`Registry::rebuild_index`] once before searching.
    pub fn new(
        truth: Arc<dyn Truth>,
        blobs: Arc<dyn Blobs>,
        sandbox: Sandbox,
        index: Arc<dyn SkillIndex>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        let (installing, loaded_as) = (tokio::sync::Mutex::new(()), Mutex::default());
        Self { truth, blobs, sandbox, index, clock, ids, installing, loaded_as }
    }

    fn context(&self, actor: Actor) -> Context<'_> {
        // Nothing here waits a random time, so chance does not matter.
        Context { now: self.clock.now(), ids: self.ids.as_ref(), actor, chance: 0.5 }
    }
}
