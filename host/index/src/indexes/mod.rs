//! The indexes as the platform uses them: the embedded ones always, Weaviate besides when there is one.
//!
//! Every write goes into the embedded indexes first, so that they can answer alone at any moment; with Weaviate, searches go
//! there while it answers ([`remote`] owns that decision). Nothing here decides what is true: [`Indexes::rebuild`] fills
//! everything from the truth again. Opened once by the server's wiring, which hands the two ports on.

mod remote;

use crate::embed::{
    Embedder, Endpoint, EndpointError, EndpointOptions, HashedLexical, LexicalHashing, MiniLm, ModelError,
    RememberError, Remembering,
};
use crate::weaviate::{Connection, Reconciled, WeaviateError, WeaviateOptions};
use crate::{LexicalIndex, LexicalMemory};
use async_trait::async_trait;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::ids::AgentId;
use chimera_core::ports::{MemoryHit, MemoryIndex, PortError, SkillHit, SkillIndex, Truth};
use chimera_core::records::{MemoryItem, TrendItem, TrendTop};
use chimera_core::skill::{SkillRef, SkillVersion};
pub use remote::WeaviateStatus;
use remote::{Looker, Remote};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::RwLock;
use uuid::Uuid;

/// Where embeddings come from.
#[derive(Debug, Clone)]
pub enum Embeddings {
    /// Character n-grams: no model, no file, no network.
    Lexical,
    /// MiniLM in process, from the folder that `chimera model fetch` fills.
    MiniLm {
        /// The model's folder.
        folder: PathBuf,
    },
    /// An OpenAI-compatible endpoint.
    Endpoint(EndpointOptions),
}

/// What the indexes are made of.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// Where embeddings come from.
    pub embeddings: Embeddings,
    /// Where the vectors of documents are kept over a restart; nowhere if none. One process may use a file.
    pub vectors_file: Option<PathBuf>,
    /// Weaviate, if it is to be used.
    pub weaviate: Option<WeaviateOptions>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { embeddings: Embeddings::Lexical, vectors_file: None, weaviate: None }
    }
}

/// Indexes that cannot be opened as they were described. A Weaviate that does not answer is no such error.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The language model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The endpoint for embeddings cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The file of vectors cannot be used.
    #[error(transparent)]
    Vectors(#[from] RememberError),
    /// Weaviate's settings make no sense.
    #[error(transparent)]
    Weaviate(#[from] WeaviateError),
}

/// What the indexes are doing, to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexStatus {
    /// The model that makes the vectors.
    pub model: String,
    /// Skills that can be found in the embedded index.
    pub skills: u64,
    /// Weaviate.
    pub weaviate: WeaviateStatus,
    /// How far a rebuilding is, if one runs.
    pub rebuilding: Option<Rebuilding>,
    /// What the last rebuilding did.
    pub last: Option<Rebuilt>,
    /// Why the last rebuilding did not get to its end, if it did not.
    pub failed: Option<String>,
}

/// How far a rebuilding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilding {
    /// Versions and items that are in the index again.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// What a rebuilding did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Versions of skills in the truth.
    pub skills: u64,
    /// Items of memory in the truth.
    pub memories: u64,
    /// Versions and items that were in the embedded index and not in the truth.
    pub removed: u64,
    /// When it ended.
    pub at: Timestamp,
}

/// The indexes. Cheap to clone; what runs for them ends with the last clone.
#[derive(Clone)]
pub struct Indexes {
    inner: Arc<Inner>,
}

struct Inner {
    embedded: Arc<Embedded>,
    model: String,
    remote: Option<Arc<Remote>>,
    _looker: Option<Looker>,
    /// Writers share it; a rebuilding holds it alone while it compares the index with the truth: a write that the truth
    /// learned of after it was read must not be undone.
    gate: RwLock<()>,
    progress: Mutex<Progress>,
    done: AtomicU64,
}

#[derive(Default)]
struct Progress {
    total: Option<u64>,
    last: Option<Rebuilt>,
    failed: Option<String>,
}

/// The indexes in process, which are never without what was written.
pub(crate) struct Embedded {
    pub(crate) skills: LexicalIndex,
    pub(crate) memory: LexicalMemory,
}

impl Embedded {
    /// Every version of every skill.
    pub(crate) fn all_versions(&self) -> Vec<SkillVersion> {
        self.skills.names().iter().flat_map(|name| self.skills.versions(name)).collect()
    }

    /// Every item of every agent.
    pub(crate) fn all_items(&self) -> Vec<MemoryItem> {
        let ids = self.memory.ids();
        let each = ids.into_iter().flat_map(|(agent, ids)| ids.into_iter().map(move |id| (agent, id)));
        each.filter_map(|(agent, id)| self.memory.item(agent, id)).collect()
    }
}

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexes").field("model", &self.inner.model).finish_non_exhaustive()
    }
}

impl Indexes {
    /// Empty indexes in this process, with Weaviate beside them if the options say so. Reads a model's files (0.2 s) and
    /// makes no connection; [`Indexes::rebuild`] is to be called once before searching. Must be called within a runtime.
    ///
    /// # Errors
    /// [`IndexError`] when a model or a setting cannot be used.
    pub async fn open(options: IndexOptions) -> Result<Self, IndexError> {
        let model: Option<Arc<dyn Embedder>> = match options.embeddings {
            Embeddings::Lexical => None,
            Embeddings::MiniLm { folder } => {
                let opened = tokio::task::spawn_blocking(move || MiniLm::open(&folder)).await;
                let opened = opened.map_err(|error| ModelError::Unusable {
                    folder: PathBuf::new(),
                    problem: format!("reading it was interrupted: {error}"),
                });
                Some(Arc::new(opened??))
            }
            Embeddings::Endpoint(options) => Some(Arc::new(Endpoint::new(options)?)),
        };
        let embedder: Option<Arc<dyn Embedder>> = match (model, options.vectors_file) {
            (Some(model), Some(file)) => Some(Arc::new(Remembering::in_file(model, &file)?)),
            (Some(model), None) => Some(Arc::new(Remembering::in_memory(model))),
            (None, _) => None,
        };
        let local = embedder.clone().unwrap_or_else(|| Arc::new(LexicalHashing::default()));
        let embedded = Arc::new(Embedded {
            skills: LexicalIndex::with_embedder(local.clone()),
            memory: LexicalMemory::with_embedder(local.clone()),
        });
        let (remote, looker) = match options.weaviate {
            Some(options) => {
                let there = embedder.unwrap_or_else(|| Arc::new(HashedLexical::default()));
                let (remote, looker) = Remote::start(Arc::new(Connection::new(options)?), there, embedded.clone());
                (Some(remote), Some(looker))
            }
            None => (None, None),
        };
        let model = local.model().to_string();
        let (gate, progress, done) = (RwLock::default(), Mutex::default(), AtomicU64::new(0));
        Ok(Self { inner: Arc::new(Inner { embedded, model, remote, _looker: looker, gate, progress, done }) })
    }

    /// The index of skills.
    pub fn skills(&self) -> Arc<dyn SkillIndex> {
        Arc::new(Skills(self.inner.clone()))
    }

    /// The index of agents' memory.
    pub fn memory(&self) -> Arc<dyn MemoryIndex> {
        Arc::new(Memory(self.inner.clone()))
    }

    /// What they are doing.
    pub fn status(&self) -> IndexStatus {
        let progress = self.progress();
        IndexStatus {
            model: self.inner.model.clone(),
            skills: self.inner.embedded.skills.len() as u64,
            weaviate: self.inner.remote.as_ref().map_or(WeaviateStatus::Off, |remote| remote.status()),
            rebuilding: progress
                .total
                .map(|total| Rebuilding { done: self.inner.done.load(Ordering::Relaxed).min(total), total }),
            last: progress.last.clone(),
            failed: progress.failed.clone(),
        }
    }

    /// Fills the indexes from the truth: what is missing is added, what has changed is replaced, what is too much is removed.
    /// Searches go on meanwhile; writes wait. Weaviate is filled from here afterwards, at once or when it is back
    /// ([`IndexStatus::weaviate`] tells). One at a time: a second one waits.
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read; nothing is removed then.
    pub async fn rebuild(&self, truth: &dyn Truth) -> Result<Rebuilt, PortError> {
        let _alone = self.inner.gate.write().await;
        let begun = SystemClock.now();
        let refilled = self.refill(truth).await;
        let mut progress = self.progress();
        progress.total = None;
        let (rebuilt, trends) = refilled.inspect_err(|error| progress.failed = Some(error.message.clone()))?;
        progress.failed = None;
        progress.last = Some(rebuilt.clone());
        if let Some(remote) = &self.inner.remote {
            remote.reconcile_as_of(begun, trends);
        }
        Ok(rebuilt)
    }

    /// Begins a rebuilding that nobody waits for; [`Indexes::status`] tells of it. False if one runs already.
    pub fn begin_rebuild(&self, truth: Arc<dyn Truth>) -> bool {
        let mut progress = self.progress();
        if progress.total.is_some() {
            return false;
        }
        self.inner.done.store(0, Ordering::Relaxed);
        progress.total = Some(0);
        drop(progress);
        let indexes = self.clone();
        tokio::spawn(async move {
            match indexes.rebuild(truth.as_ref()).await {
                Ok(rebuilt) => tracing::info!(?rebuilt, "the indexes were filled again"),
                Err(error) => tracing::error!(%error, "the indexes could not be filled again"),
            }
        });
        true
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refill(&self, truth: &dyn Truth) -> Result<(Rebuilt, Vec<TrendTop>), PortError> {
        let versions = truth.skills(None).await?;
        let items = truth.memory(None).await?;
        let now = SystemClock.now();
        let kept = i64::try_from(TrendItem::KEPT.as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(kept));
        let trends = if self.inner.remote.is_some() { truth.top_trends(since, MAX_TRENDS).await? } else { Vec::new() };
        let total = (versions.len() + items.len()) as u64;
        self.inner.done.store(0, Ordering::Relaxed);
        self.progress().total = Some(total);
        let embedded = &self.inner.embedded;
        let mut removed = embedded.skills.keep_only(&versions.iter().map(|version| &version.skill).collect());
        removed += embedded.memory.keep_only(&items.iter().map(|item| (item.agent, item.id)).collect::<HashSet<_>>());
        for some in versions.chunks(AT_ONCE) {
            embedded.skills.put_all(some).await;
            self.inner.done.fetch_add(some.len() as u64, Ordering::Relaxed);
        }
        for some in items.chunks(AT_ONCE) {
            embedded.memory.put_all(some).await;
            self.inner.done.fetch_add(some.len() as u64, Ordering::Relaxed);
        }
        let (skills, memories) = (versions.len() as u64, items.len() as u64);
        Ok((Rebuilt { skills, memories, removed: removed as u64, at: SystemClock.now() }, trends))
    }

    /// Waits until Weaviate holds what the embedded indexes do; at once if there is none. False if it took longer than this.
    pub async fn settled(&self, within: std::time::Duration) -> bool {
        let Some(remote) = &self.inner.remote else { return true };
        tokio::time::timeout(within, remote.settled()).await.is_ok()
    }

    /// The topics that are about the same as a text, from Weaviate; none without it.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached.
    pub async fn trends_near(&self, text: &str, limit: usize) -> Result<Vec<(TrendTop, f64)>, PortError> {
        match &self.inner.remote {
            Some(remote) => remote.trends_near(text, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// What the last reconciliation with Weaviate did: skills, then memory.
    pub fn last_reconciled(&self) -> Option<(Reconciled, Reconciled)> {
        self.inner.remote.as_ref().and_then(|remote| remote.last_reconciled())
    }
}

/// Versions and items that are put together, so that the progress moves.
const AT_ONCE: usize = 64;
/// Topics that Weaviate is told of.
const MAX_TRENDS: u32 = 1000;

struct Skills(Arc<Inner>);

#[async_trait]
impl SkillIndex for Skills {
    async fn put(&self, version: &SkillVersion) -> Result<(), PortError> {
        let _gate = self.0.gate.read().await;
        self.0.embedded.skills.put(version).await?;
        if let Some(remote) = &self.0.remote {
            remote.put_skill(version).await;
        }
        Ok(())
    }

    async fn remove(&self, skill: &SkillRef) -> Result<(), PortError> {
        let _gate = self.0.gate.read().await;
        self.0.embedded.skills.remove(skill).await?;
        if let Some(remote) = &self.0.remote {
            remote.remove_skill(skill).await;
        }
        Ok(())
    }

    async fn search(&self, text: &str, limit: usize) -> Result<Vec<SkillHit>, PortError> {
        if let Some(remote) = &self.0.remote
            && let Some(hits) = remote.search_skills(text, limit).await
        {
            return Ok(hits);
        }
        self.0.embedded.skills.search(text, limit).await
    }
}

struct Memory(Arc<Inner>);

#[async_trait]
impl MemoryIndex for Memory {
    async fn put(&self, item: &MemoryItem) -> Result<(), PortError> {
        let _gate = self.0.gate.read().await;
        self.0.embedded.memory.put(item).await?;
        if let Some(remote) = &self.0.remote {
            remote.put_item(item).await;
        }
        Ok(())
    }

    async fn forget(&self, agent: AgentId, item: Uuid) -> Result<(), PortError> {
        let _gate = self.0.gate.read().await;
        self.0.embedded.memory.forget(agent, item).await?;
        if let Some(remote) = &self.0.remote {
            remote.forget_item(agent, item).await;
        }
        Ok(())
    }

    async fn search(&self, agent: AgentId, text: &str, limit: usize) -> Result<Vec<MemoryHit>, PortError> {
        if let Some(remote) = &self.0.remote
            && let Some(hits) = remote.search_memory(agent, text, limit).await
        {
            return Ok(hits);
        }
        self.0.embedded.memory.search(agent, text, limit).await
    }
}
