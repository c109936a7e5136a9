//! Semantic search without a server: finds skills and memories by what they are about.
//!
//! Words (stemmed, with everyday synonyms) are weighed by rarity and field, and blended with the likeness of two
//! embeddings, so that other words, other endings and typing errors still find the thing. Nothing here does any I/O or
//! outlives the process: the registry and the store fill it again at start. Called through core's `SkillIndex` and
//! `MemoryIndex`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod corpus;
mod dense;
mod embed;
mod indexes;
mod memory;
mod quality;
mod skills;
mod synonyms;
mod weaviate;
mod words;

pub use embed::{
    Embedder, Embedding, Endpoint, EndpointError, EndpointOptions, HashedLexical, LexicalHashing, MINILM_DIMENSIONS,
    MODEL_FILES, MiniLm, ModelError, ModelName, Purpose, RememberError, Remembering, Vector,
};
pub use indexes::{Embeddings, IndexError, IndexOptions, IndexStatus, Indexes, Rebuilding, Rebuilt, WeaviateStatus};
pub use memory::LexicalMemory;
pub use quality::ndcg;
pub use skills::LexicalIndex;
pub use weaviate::{Reconciled, WeaviateError, WeaviateMemory, WeaviateOptions, WeaviateSkills, WeaviateTrends};

/// Longest text that is looked at, in bytes; the rest of a longer one is ignored.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Longest query that is looked at, in bytes.
pub const MAX_QUERY_BYTES: usize = 4 * 1024;
/// Most hits of one search.
pub const MAX_HITS: usize = 1000;
