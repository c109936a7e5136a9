//! Whether Weaviate is asked, and what it has missed.
//!
//! It is *up* (searched, and written with every write), *down* (left alone but for a question now and then) or *catching up*
//! (written what it missed, not yet searched). What it missed is noted by name only, because the embedded indexes hold what
//! is to be written; beyond a limit nothing more is noted and everything is compared instead. One task looks after it: it
//! sleeps while all is well, and waits longer and longer while Weaviate is down. Owned by [`super::Indexes`].

use super::Embedded;
use crate::embed::Embedder;
use crate::weaviate::{Connection, Reconciled, WeaviateMemory, WeaviateSkills, WeaviateTrends};
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::ids::AgentId;
use chimera_core::ports::{MemoryHit, MemoryIndex as _, PortError, PortErrorKind, SkillHit, SkillIndex as _};
use chimera_core::records::{MemoryItem, TrendTop};
use chimera_core::skill::{SkillName, SkillRef, SkillVersion};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Names and items that are noted while Weaviate is down; more, and everything is compared when it is back.
const MAX_NOTED: usize = 10_000;
/// How long the first wait for a Weaviate that is down takes, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How it stands with Weaviate, to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum WeaviateStatus {
    /// It is not configured: the embedded indexes answer.
    Off,
    /// It answers.
    Up,
    /// It is written what it missed; the embedded indexes answer.
    CatchingUp {
        /// Versions and items that it has.
        done: u64,
    },
    /// It does not answer; the embedded indexes do.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why, for the operator.
        why: String,
        /// Writes that it will be told of.
        noted: u64,
        /// More were missed than are noted: everything will be compared.
        compares_everything: bool,
    },
}

/// Weaviate and what is known of it.
pub(super) struct Remote {
    connection: Arc<Connection>,
    skills: WeaviateSkills,
    memory: WeaviateMemory,
    trends: WeaviateTrends,
    embedded: Arc<Embedded>,
    state: Mutex<State>,
    done: AtomicU64,
    wake: Notify,
    settled: watch::Sender<bool>,
}

struct State {
    mode: Mode,
    missed: Missed,
    last: Option<(Reconciled, Reconciled)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Mode {
    /// Nobody knows yet.
    Unasked {
        since: Timestamp,
    },
    Up,
    CatchingUp,
    Down {
        since: Timestamp,
        why: String,
    },
}

/// What Weaviate has to be told.
#[derive(Default)]
struct Missed {
    skills: HashSet<SkillName>,
    items: HashSet<(AgentId, Uuid)>,
    /// Compare everything.
    everything: bool,
    /// Remove what is too much there, if it was written before this moment: then the truth was read.
    truth_as_of: Option<Timestamp>,
    trends: Option<Vec<TrendTop>>,
}

impl Missed {
    fn len(&self) -> usize {
        self.skills.len() + self.items.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0 && !self.everything && self.trends.is_none()
    }

    /// No more than the limit is noted; names that were are kept, because only they tell of removals.
    fn note(&mut self, what: impl FnOnce(&mut Self)) {
        if self.len() < MAX_NOTED {
            what(self);
        } else {
            self.everything = true;
        }
    }

    /// Takes up again what could not be told.
    fn merge(&mut self, earlier: Self) {
        self.skills.extend(earlier.skills);
        self.items.extend(earlier.items);
        self.everything |= earlier.everything;
        self.truth_as_of = self.truth_as_of.or(earlier.truth_as_of);
        self.trends = self.trends.take().or(earlier.trends);
    }
}

impl Remote {
    /// Begins to look after a Weaviate, in a task that ends when the second value is dropped.
    pub(super) fn start(
        connection: Arc<Connection>,
        embedder: Arc<dyn Embedder>,
        embedded: Arc<Embedded>,
    ) -> (Arc<Self>, Looker) {
        let mode = Mode::Unasked { since: SystemClock.now() };
        let remote = Arc::new(Self {
            skills: WeaviateSkills::new(connection.clone(), embedder.clone()),
            memory: WeaviateMemory::new(connection.clone(), embedder.clone()),
            trends: WeaviateTrends::new(connection.clone(), embedder),
            connection,
            embedded,
            state: Mutex::new(State { mode, missed: Missed::default(), last: None }),
            done: AtomicU64::new(0),
            wake: Notify::new(),
            settled: watch::Sender::new(false),
        });
        let looker = Looker(tokio::spawn(look_after(remote.clone())).abort_handle());
        (remote, looker)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.state().mode == Mode::Up
    }

    pub(super) fn status(&self) -> WeaviateStatus {
        let state = self.state();
        let down = |since: Timestamp, why: &str| WeaviateStatus::Down {
            since,
            why: why.to_owned(),
            noted: state.missed.len() as u64,
            compares_everything: state.missed.everything,
        };
        match &state.mode {
            Mode::Unasked { since } => down(*since, "it was not asked yet"),
            Mode::Up => WeaviateStatus::Up,
            Mode::CatchingUp => WeaviateStatus::CatchingUp { done: self.done.load(Ordering::Relaxed) },
            Mode::Down { since, why } => down(*since, why),
        }
    }

    pub(super) fn last_reconciled(&self) -> Option<(Reconciled, Reconciled)> {
        self.state().last
    }

    /// Waits until it is up and has missed nothing.
    pub(super) async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        // The sender is this value's own: it cannot be gone.
        let _ = settled.wait_for(|is_settled| *is_settled).await;
    }

    /// Everything is to be compared with the embedded indexes, which hold what the truth did at that moment.
    pub(super) fn reconcile_as_of(&self, moment: Timestamp, trends: Vec<TrendTop>) {
        let mut state = self.state();
        state.missed.everything = true;
        state.missed.truth_as_of = Some(moment);
        state.missed.trends = Some(trends);
        if state.mode == Mode::Up {
            state.mode = Mode::CatchingUp;
        }
        self.settled.send_replace(false);
        drop(state);
        self.wake.notify_one();
    }

    fn go_down(&self, error: &PortError) {
        self.down(&mut self.state(), error);
    }

    fn down(&self, state: &mut State, error: &PortError) {
        if !matches!(state.mode, Mode::Down { .. }) {
            let server = self.connection.address();
            tracing::warn!(%error, server, "Weaviate is down; the embedded index answers, and it is tried again");
            state.mode = Mode::Down { since: SystemClock.now(), why: error.message.clone() };
            self.settled.send_replace(false);
            self.wake.notify_one();
        }
    }

    /// Notes a write if Weaviate cannot be told now; says whether it can.
    fn note_unless_up(&self, what: impl FnOnce(&mut Missed)) -> bool {
        let mut state = self.state();
        let is_up = state.mode == Mode::Up;
        if !is_up {
            state.missed.note(what);
        }
        is_up
    }

    /// What became of a write: if Weaviate did not take it, it is noted.
    fn written(&self, result: Result<(), PortError>, what: impl FnOnce(&mut Missed)) {
        let Err(error) = result else { return };
        if error.kind == PortErrorKind::Permanent {
            // It would be refused again: the embedded index has it, Weaviate never will.
            tracing::error!(%error, "Weaviate does not take a write");
            return;
        }
        // At once: what is noted while it is up nobody would look at.
        let mut state = self.state();
        self.down(&mut state, &error);
        state.missed.note(what);
    }

    pub(super) async fn put_skill(&self, version: &SkillVersion) {
        let note = |missed: &mut Missed| {
            missed.skills.insert(version.skill.name.clone());
        };
        if self.note_unless_up(note) {
            self.written(self.skills.put(version).await, note);
        }
    }

    pub(super) async fn remove_skill(&self, skill: &SkillRef) {
        let note = |missed: &mut Missed| {
            missed.skills.insert(skill.name.clone());
        };
        if self.note_unless_up(note) {
            self.written(self.skills.remove(skill).await, note);
        }
    }

    pub(super) async fn put_item(&self, item: &MemoryItem) {
        let note = |missed: &mut Missed| {
            missed.items.insert((item.agent, item.id));
        };
        if self.note_unless_up(note) {
            self.written(self.memory.put(item).await, note);
        }
    }

    pub(super) async fn forget_item(&self, agent: AgentId, item: Uuid) {
        let note = |missed: &mut Missed| {
            missed.items.insert((agent, item));
        };
        if self.note_unless_up(note) {
            self.written(self.memory.forget(agent, item).await, note);
        }
    }

    /// What Weaviate finds; none if the embedded index has to answer.
    pub(super) async fn search_skills(&self, text: &str, limit: usize) -> Option<Vec<SkillHit>> {
        if !self.is_up() {
            return None;
        }
        self.found(self.skills.search(text, limit).await)
    }

    /// What Weaviate finds; none if the embedded index has to answer.
    pub(super) async fn search_memory(&self, agent: AgentId, text: &str, limit: usize) -> Option<Vec<MemoryHit>> {
        if !self.is_up() {
            return None;
        }
        self.found(self.memory.search(agent, text, limit).await)
    }

    pub(super) async fn trends_near(&self, text: &str, limit: usize) -> Result<Vec<(TrendTop, f64)>, PortError> {
        self.trends.near(text, limit).await
    }

    fn found<T>(&self, result: Result<T, PortError>) -> Option<T> {
        result
            .inspect_err(|error| {
                if error.kind == PortErrorKind::Unavailable {
                    self.go_down(error)
                }
            })
            .ok()
    }

    /// Tells Weaviate what it missed, until there is nothing left; then it is up.
    async fn catch_up(&self) -> Result<(), PortError> {
        self.done.store(0, Ordering::Relaxed);
        // A class that is new, or was another model's, holds nothing: everything is missing in it.
        if self.skills.prepare().await? | self.memory.prepare().await? {
            self.state().missed.everything = true;
        }
        self.trends.prepare().await?;
        loop {
            let missed = {
                let mut state = self.state();
                if state.missed.is_empty() {
                    state.mode = Mode::Up;
                    self.settled.send_replace(true);
                    return Ok(());
                }
                state.mode = Mode::CatchingUp;
                std::mem::take(&mut state.missed)
            };
            if let Err(error) = self.tell(&missed).await {
                self.state().missed.merge(missed);
                return Err(error);
            }
        }
    }

    async fn tell(&self, missed: &Missed) -> Result<(), PortError> {
        if missed.everything {
            let before = AtomicU64::new(0);
            let progress = |done: u64| self.done.store(before.load(Ordering::Relaxed) + done, Ordering::Relaxed);
            let skills = self.skills.reconcile(&self.embedded.all_versions(), missed.truth_as_of, &progress).await?;
            before.store(skills.written + skills.kept, Ordering::Relaxed);
            let memory = self.memory.reconcile(&self.embedded.all_items(), missed.truth_as_of, &progress).await?;
            tracing::info!(?skills, ?memory, "Weaviate was compared with the embedded index");
            self.state().last = Some((skills, memory));
        }
        // Names that were noted may have been removed, which a comparison without the truth does not do.
        for name in &missed.skills {
            self.skills.put_name(name, &self.embedded.skills.versions(name)).await?;
        }
        for (agent, id) in &missed.items {
            match self.embedded.memory.item(*agent, *id) {
                Some(item) => self.memory.put(&item).await?,
                None => self.memory.forget(*agent, *id).await?,
            }
        }
        if let Some(trends) = &missed.trends {
            self.trends.replace(trends).await?;
        }
        Ok(())
    }
}

/// The task that looks after Weaviate; it ends with this.
pub(super) struct Looker(AbortHandle);

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Brings Weaviate up whenever it is not. It sleeps until it is woken, or until the next try is due.
async fn look_after(remote: Arc<Remote>) {
    let mut wait = FIRST_WAIT;
    loop {
        if remote.is_up() {
            wait = FIRST_WAIT;
            remote.wake.notified().await;
            continue;
        }
        let result = match remote.connection.ready().await {
            Ok(()) => remote.catch_up().await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            remote.go_down(&error);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
