//! The index of what agents remember: each agent finds only its own items.
//!
//! It holds whole items in memory and forgets an agent's oldest where the truth does, so that no agent can fill the
//! host. Called by the server's memory port and filled from the truth at start.

use crate::corpus::{Blend, Corpus, DocId, Field};
use crate::embed::{Embedder, Embedding, LexicalHashing, Purpose, embed_one};
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::AgentId;
use chimera_core::ports::{MemoryHit, MemoryIndex, PortError};
use chimera_core::records::MemoryItem;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// Memories of all agents, searched by words and likeness.
pub struct LexicalMemory {
    embedder: Arc<dyn Embedder>,
    /// A corpus an agent: rarity is the agent's own, and no search can see another's items.
    agents: RwLock<HashMap<AgentId, Memories>>,
}

#[derive(Default)]
struct Memories {
    corpus: Corpus,
    items: HashMap<DocId, MemoryItem>,
    docs: HashMap<Uuid, DocId>,
    /// Oldest first, as the truth forgets them.
    by_age: BTreeSet<(Timestamp, Uuid)>,
    /// Of text and metadata.
    bytes: usize,
}

impl Memories {
    fn put(&mut self, item: &MemoryItem, embedding: Option<Embedding>) {
        self.forget(item.id);
        let field = Field { weight: 1.5, usual: 20.0, text: item.text.clone() };
        let doc = self.corpus.add(&[field], embedding);
        self.docs.insert(item.id, doc);
        self.by_age.insert((item.created_at, item.id));
        self.bytes += item.size();
        self.items.insert(doc, item.clone());
        while self.items.len() > MemoryItem::MAX_ITEMS || self.bytes > MemoryItem::MAX_BYTES {
            let oldest = self.by_age.iter().map(|(_, id)| *id).find(|id| *id != item.id);
            let Some(oldest) = oldest else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: Uuid) {
        let Some(doc) = self.docs.remove(&id) else { return };
        self.corpus.remove(doc);
        if let Some(item) = self.items.remove(&doc) {
            self.by_age.remove(&(item.created_at, id));
            self.bytes -= item.size();
        }
    }
}

impl fmt::Debug for LexicalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LexicalMemory").finish_non_exhaustive()
    }
}

impl Default for LexicalMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl LexicalMemory {
    /// An empty index that needs no model.
    pub fn new() -> Self {
        Self::with_embedder(Arc::new(LexicalHashing::default()))
    }

    /// An empty index with another source of embeddings.
    pub fn with_embedder(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, agents: RwLock::default() }
    }

    /// Adds or replaces many items; their texts are embedded some at a time, which a model does faster.
    pub async fn put_all(&self, items: &[MemoryItem]) {
        for some in items.chunks(EMBEDDED_AT_ONCE) {
            let texts: Vec<&str> = some.iter().map(|item| item.text.as_str()).collect();
            let embeddings = self.embedder.embed(&texts, Purpose::Document).await;
            let mut embeddings = embeddings.unwrap_or_default().into_iter();
            for item in some {
                self.keep(item, embeddings.next());
            }
        }
    }

    /// One item, if it is known.
    pub fn item(&self, agent: AgentId, id: Uuid) -> Option<MemoryItem> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let memories = agents.get(&agent)?;
        memories.items.get(memories.docs.get(&id)?).cloned()
    }

    /// Every agent that remembers something, and the ids of what it remembers.
    pub fn ids(&self) -> Vec<(AgentId, Vec<Uuid>)> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.iter().map(|(agent, memories)| (*agent, memories.docs.keys().copied().collect())).collect()
    }

    /// Forgets every item but these; returns how many that were.
    pub fn keep_only(&self, wanted: &HashSet<(AgentId, Uuid)>) -> usize {
        let mut forgotten = 0;
        for (agent, memories) in self.agents.write().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let gone: Vec<Uuid> =
                memories.docs.keys().filter(|id| !wanted.contains(&(*agent, **id))).copied().collect();
            gone.iter().for_each(|id| memories.forget(*id));
            forgotten += gone.len();
        }
        forgotten
    }

    fn keep(&self, item: &MemoryItem, embedding: Option<Embedding>) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.entry(item.agent).or_default().put(item, embedding);
    }
}

/// Texts that are given to the embedder together.
const EMBEDDED_AT_ONCE: usize = 64;

#[async_trait]
impl MemoryIndex for LexicalMemory {
    async fn put(&self, item: &MemoryItem) -> Result<(), PortError> {
        let embedding = embed_one(self.embedder.as_ref(), &item.text, Purpose::Document).await;
        self.keep(item, embedding);
        Ok(())
    }

    async fn forget(&self, agent: AgentId, item: Uuid) -> Result<(), PortError> {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(memories) = agents.get_mut(&agent) {
            memories.forget(item);
        }
        Ok(())
    }

    async fn search(&self, agent: AgentId, text: &str, limit: usize) -> Result<Vec<MemoryHit>, PortError> {
        let query = chimera_core::text::truncated(text.to_owned(), crate::MAX_QUERY_BYTES);
        let embedding = embed_one(self.embedder.as_ref(), &query, Purpose::Query).await;
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let Some(memories) = agents.get(&agent) else { return Ok(Vec::new()) };
        let hits = memories.corpus.search(&query, embedding.as_ref(), Blend::of(self.embedder.as_ref()), limit);
        Ok(hits
            .into_iter()
            .filter_map(|hit| Some(MemoryHit { item: memories.items.get(&hit.doc)?.clone(), score: hit.score }))
            .collect())
    }
}
