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
use std::time::{Duration, Instant};

/// Names that are kept of each kind; beyond that all are read anew.
const MOST_NAMES: usize = 1024;

/// What is kept of skills, by name.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    pub(crate) skills: Kept<SkillVersion>,
    pub(crate) routes: Kept<Route>,
}

impl Installed {
    /// Of a truth that other processes change too: nothing is kept for longer than this.
    pub(crate) fn for_at_most(age: Duration) -> Self {
        Self { skills: Kept::for_at_most(Some(age)), routes: Kept::for_at_most(Some(age)) }
    }

    /// Another process changed something, or may have.
    pub(crate) fn forget(&self) {
        self.skills.forget();
        self.routes.forget();
    }

    /// These writes are in the database now.
    pub(crate) fn written<'w>(&self, writes: impl IntoIterator<Item = &'w Write>) {
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
    pub(crate) fn is_on_trial(&self, skill: &SkillRef) -> Option<bool> {
        let is_trial = |route: &Route| route.canary.as_ref().is_some_and(|canary| canary.version == skill.version);
        self.routes.look(&skill.name, |routes| routes.iter().any(is_trial))
    }
}

/// What is kept of one table.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    /// How often the table was changed.
    changes: AtomicU64,
    read: Mutex<HashMap<SkillName, Read<T>>>,
    /// For how long it is kept; for ever if none is given.
    at_most: Option<Duration>,
}

/// What was read, after how many changes, and when.
#[derive(Debug)]
struct Read<T> {
    changes: u64,
    at: Instant,
    rows: Vec<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self::for_at_most(None)
    }
}

impl<T> Kept<T> {
    fn for_at_most(at_most: Option<Duration>) -> Self {
        Self { changes: AtomicU64::new(0), read: Mutex::default(), at_most }
    }
}

impl<T: Clone> Kept<T> {
    fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What is kept under a name, else what `read` gives.
    pub(crate) async fn get(
        &self,
        name: &SkillName,
        read: impl Future<Output = PortResult<Vec<T>>>,
    ) -> PortResult<Vec<T>> {
        let (changes, at) = (self.changes.load(Ordering::SeqCst), Instant::now());
        if let Some(kept) = self.kept(name) {
            return Ok(kept);
        }
        let found = read.await?;
        let mut kept = self.lock();
        if kept.len() >= MOST_NAMES {
            kept.clear();
        }
        kept.insert(name.clone(), Read { changes, at, rows: found.clone() });
        Ok(found)
    }

    /// What is kept under a name and still holds.
    fn kept(&self, name: &SkillName) -> Option<Vec<T>> {
        self.look(name, <[T]>::to_vec)
    }

    /// Looks at what is kept under a name and still holds.
    fn look<R>(&self, name: &SkillName, at: impl FnOnce(&[T]) -> R) -> Option<R> {
        let changes = self.changes.load(Ordering::SeqCst);
        let is_young = |read: Instant| self.at_most.is_none_or(|at_most| read.elapsed() <= at_most);
        let read = self.lock();
        let read = read.get(name).filter(|read| read.changes == changes && is_young(read.at))?;
        Some(at(&read.rows))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SkillName, Read<T>>> {
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

    #[tokio::test]
    async fn what_others_may_change_is_not_kept_for_long() {
        let (kept, name) = (Kept::<u8>::for_at_most(Some(Duration::ZERO)), "test/one".parse::<SkillName>().unwrap());
        assert_eq!(kept.get(&name, async { Ok(vec![1]) }).await.unwrap(), [1]);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(kept.get(&name, async { Ok(vec![2]) }).await.unwrap(), [2]);
    }
}
