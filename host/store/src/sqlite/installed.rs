//! Versions and routes of skills, as they were read last.
//!
//! Every task asks several times for the same few rows, whose bodies are whole manifests. What was read is kept until a
//! commit of the one writer touches its table; a reader notes the count of changes before it reads, so that what it read
//! too early is never taken for what is there now. What another program writes into these tables while the store is open
//! may go unseen until the next such commit. Only a cache: it decides nothing. Used by the reads, told by the writer.

use crate::rows::PortResult;
use chimera_core::change::Write;
use chimera_core::route::Route;
use chimera_core::skill::{SkillName, SkillRef, SkillVersion};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Names that are kept of each kind; beyond that all are read anew.
const MOST_NAMES: usize = 1024;

/// What is kept of skills, by name.
#[derive(Debug, Default)]
pub(super) struct Installed {
    pub(super) skills: Kept<SkillVersion>,
    pub(super) routes: Kept<Route>,
}

impl Installed {
    /// These writes are in the database now.
    pub(super) fn written(&self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::PutSkill(_) | Write::SetSkillState(..) => self.skills.forget(),
                Write::PutRoute(_) => self.routes.forget(),
                Write::CountRun(skill, _) if self.is_on_trial(skill) != Some(false) => self.routes.forget(),
                _ => {}
            }
        }
    }
}

impl Installed {
    /// Whether runs of this version are counted; none if that is not known.
    fn is_on_trial(&self, skill: &SkillRef) -> Option<bool> {
        let routes = self.routes.kept(&skill.name)?;
        let is_trial = |route: &Route| route.canary.as_ref().is_some_and(|canary| canary.version == skill.version);
        Some(routes.iter().any(is_trial))
    }
}

/// What is kept of one table.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// How often the table was changed.
    changes: AtomicU64,
    /// What was read, and after how many changes.
    read: Mutex<HashMap<SkillName, (u64, Vec<T>)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { changes: AtomicU64::new(0), read: Mutex::default() }
    }
}

impl<T: Clone> Kept<T> {
    fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What is kept under a name, else what `read` gives.
    pub(super) async fn get(
        &self,
        name: &SkillName,
        read: impl Future<Output = PortResult<Vec<T>>>,
    ) -> PortResult<Vec<T>> {
        let now = self.changes.load(Ordering::SeqCst);
        if let Some(kept) = self.kept(name) {
            return Ok(kept);
        }
        let found = read.await?;
        let mut kept = self.lock();
        if kept.len() >= MOST_NAMES {
            kept.clear();
        }
        kept.insert(name.clone(), (now, found.clone()));
        Ok(found)
    }

    /// What is kept under a name and still holds.
    fn kept(&self, name: &SkillName) -> Option<Vec<T>> {
        let now = self.changes.load(Ordering::SeqCst);
        self.lock().get(name).filter(|(then, _)| *then == now).map(|(_, kept)| kept.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SkillName, (u64, Vec<T>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept_beyond_it() {
        let (kept, name) = (Kept::<u8>::default(), "test/one".parse::<SkillName>().unwrap());
        let slow = async {
            // The table changes while it is read.
            kept.forget();
            Ok(vec![1])
        };
        assert_eq!(kept.get(&name, slow).await.unwrap(), [1]);
        assert_eq!(kept.get(&name, async { Ok(vec![2]) }).await.unwrap(), [2], "the first was too old to be kept");
        assert_eq!(kept.get(&name, async { Ok(vec![3]) }).await.unwrap(), [2], "nothing has changed since");
    }
}
