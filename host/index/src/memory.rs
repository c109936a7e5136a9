//! The index of what agents remember: each agent finds only its own items.
//!
//! It holds whole items in memory and forgets nothing by itself. Called by the server's memory port and filled from
//! the truth at start.

use crate::corpus::{Corpus, DocId, Field};
use crate::embed::{Embedder, Embedding, LexicalHashing};
use async_trait::async_trait;
use chimera_core::ids::AgentId;
use chimera_core::ports::{MemoryHit, MemoryIndex, PortError};
use chimera_core::records::MemoryItem;
use std::collections::HashMap;
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
        Self::with_embedder(Arc::new(LexicalHashing))
    }

    /// An empty index with another source of embeddings.
    pub fn with_embedder(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, agents: RwLock::default() }
    }

    async fn embed(&self, text: &str) -> Option<Embedding> {
        self.embedder.embed(&[text]).await.ok()?.pop()
    }
}

#[async_trait]
impl MemoryIndex for LexicalMemory {
    async fn put(&self, item: &MemoryItem) -> Result<(), PortError> {
        let embedding = self.embed(&item.text).await;
        let field = Field { weight: 1.5, usual: 20.0, text: item.text.clone() };
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        let memories = agents.entry(item.agent).or_default();
        if let Some(old) = memories.docs.remove(&item.id) {
            memories.corpus.remove(old);
            memories.items.remove(&old);
        }
        let doc = memories.corpus.add(&[field], embedding);
        memories.docs.insert(item.id, doc);
        memories.items.insert(doc, item.clone());
        Ok(())
    }

    async fn search(&self, agent: AgentId, text: &str, limit: usize) -> Result<Vec<MemoryHit>, PortError> {
        let query = chimera_core::text::truncated(text.to_owned(), crate::MAX_QUERY_BYTES);
        let embedding = self.embed(&query).await;
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let Some(memories) = agents.get(&agent) else { return Ok(Vec::new()) };
        let hits = memories.corpus.search(&query, embedding.as_ref(), self.embedder.share(), limit);
        Ok(hits
            .into_iter()
            .filter_map(|hit| Some(MemoryHit { item: memories.items.get(&hit.doc)?.clone(), score: hit.score }))
            .collect())
    }
}
