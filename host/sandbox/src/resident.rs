//! What compiled code is in memory, how much it is used, and taking it out.
//!
//! Taking code out only forgets it: runs in flight hold what they need, and the memory goes with the last of them. It knows
//! digests and nothing of skills. Called by the registry, which unloads what no new work is sent to.

use crate::prepared::Prepared;
use crate::sandbox::{Sandbox, locked};
use chimera_core::digest::Digest;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Compiled code in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Of which component.
    pub digest: Digest,
    /// Size of its code and data in bytes.
    pub code_bytes: u64,
    /// Runs in flight.
    pub runs: u32,
    /// Since when nothing was run or asked for; zero while something runs.
    pub idle: Duration,
    /// Whether new runs get it.
    pub hold: Hold,
}

/// Whether new runs get compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// It was forgotten; what still uses it keeps it in memory until it ends.
    Leaving,
    /// The next run gets it at once.
    Kept,
}

/// How much a prepared component is used.
#[derive(Debug)]
pub(crate) struct Uses {
    runs: AtomicU32,
    last: Mutex<Instant>,
}

impl Uses {
    pub(crate) fn new() -> Self {
        Self { runs: AtomicU32::new(0), last: Mutex::new(Instant::now()) }
    }

    /// Notes that somebody asked for it.
    pub(crate) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Counts a run for as long as the answer lives.
    pub(crate) fn begin(&self) -> Using<'_> {
        self.runs.fetch_add(1, Ordering::AcqRel);
        Using(self)
    }

    fn idle(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A run in flight.
pub(crate) struct Using<'u>(&'u Uses);

impl Drop for Using<'_> {
    fn drop(&mut self) {
        // First the time: who sees no run any more must not see an old time.
        self.0.touch();
        self.0.runs.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Forgotten components that may still be in use.
#[derive(Default)]
pub(crate) struct Leaving(Vec<Weak<Prepared>>);

impl Leaving {
    pub(crate) fn put(&mut self, prepared: &Arc<Prepared>) {
        self.0.retain(|weak| weak.strong_count() > 0);
        self.0.push(Arc::downgrade(prepared));
    }

    fn all(&mut self) -> Vec<Arc<Prepared>> {
        self.0.retain(|weak| weak.strong_count() > 0);
        self.0.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Sandbox {
    /// Everything that is in memory, by digest; what was forgotten is there until its last run ended.
    pub fn loaded(&self) -> Vec<Resident> {
        let (kept, leaving) = {
            let mut recent = locked(&self.0.prepared);
            (recent.all(), recent.leaving.all())
        };
        let mut found: BTreeMap<Digest, Resident> = BTreeMap::new();
        let held = leaving.iter().map(|one| (one, Hold::Leaving)).chain(kept.iter().map(|one| (one, Hold::Kept)));
        for (prepared, hold) in held {
            let runs = prepared.uses.runs.load(Ordering::Acquire);
            let idle = if runs > 0 { Duration::ZERO } else { prepared.uses.idle() };
            let code_bytes = prepared.code_bytes();
            found
                .entry(prepared.digest())
                .and_modify(|one| {
                    one.code_bytes += code_bytes;
                    one.runs += runs;
                    one.idle = one.idle.min(idle);
                    one.hold = one.hold.max(hold);
                })
                .or_insert(Resident { digest: prepared.digest(), code_bytes, runs, idle, hold });
        }
        found.into_values().collect()
    }

    /// Forgets compiled code: the memory is freed with the last run in flight, at once if there is none. A later run loads it
    /// again, from the disk cache if there is one. Says whether there was anything to forget.
    pub fn unload(&self, digest: &Digest) -> bool {
        locked(&self.0.prepared).forget(digest)
    }
}
