//! The indexes in Weaviate: the classes `Skills`, `AgentMemory` and `ContentTrend`, filled with our words and our vectors.
//!
//! Weaviate is given no text to understand: words are cut, stemmed and grouped here, vectors are made here (`vectorizer:
//! none`), and what it finds is scored here again, so that a score means the same as in the embedded index. It is asked for
//! candidates by BM25 and by vectors at once (hybrid search). It is a copy: whatever is in it can be written again from the
//! truth. Called by [`crate::Indexes`].

mod client;
mod graphql;
mod memory;
mod schema;
mod skills;
mod trends;

pub(crate) use client::Connection;
pub use client::{WeaviateError, WeaviateOptions};
pub use memory::WeaviateMemory;
pub use skills::WeaviateSkills;
pub use trends::WeaviateTrends;

use crate::corpus::Blend;
use crate::embed::{Embedder, Embedding, Purpose, Vector};
use chimera_core::ports::{PortError, PortErrorKind};
use serde_json::Value;
use std::sync::Arc;

/// What an index found in Weaviate and this process's truth have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reconciled {
    /// Objects that were written because they were missing or had changed.
    pub written: u64,
    /// Objects that were removed because nothing of the truth belongs to them.
    pub removed: u64,
    /// Objects that were as they should be.
    pub kept: u64,
}

/// A text's vector, or none if the model cannot answer or has none of one length to give.
async fn vector_of(embedder: &dyn Embedder, text: &str, purpose: Purpose) -> Option<Vector> {
    vectors_of(embedder, &[text], purpose).await.pop().flatten()
}

async fn vectors_of(embedder: &dyn Embedder, texts: &[&str], purpose: Purpose) -> Vec<Option<Vector>> {
    let dense = |embedding| match embedding {
        Embedding::Dense(vector) => Some(vector),
        Embedding::Sparse(_) => None,
    };
    let found = embedder.embed(texts, purpose).await.unwrap_or_default();
    let mut vectors: Vec<Option<Vector>> = found.into_iter().map(dense).collect();
    vectors.resize(texts.len(), None);
    vectors
}

/// Numbers as the crate wants them.
fn numbers(vector: Option<&Vector>) -> Option<Vec<f64>> {
    vector.map(|vector| vector.values().iter().map(|value| f64::from(*value)).collect())
}

/// The cosine of a query's vector and a found object's, if both have one.
fn cosine(query: Option<&Vector>, object: &Value) -> Option<f32> {
    let (query, found) = (query?.values(), object.pointer("/_additional/vector")?.as_array()?);
    (query.len() == found.len())
        .then(|| query.iter().zip(found).map(|(a, b)| a * b.as_f64().unwrap_or(0.0) as f32).sum())
}

/// The score of a found object, by the same rule as the embedded index's.
fn score(blend: Blend, words: f32, cosine: Option<f32>) -> f64 {
    match cosine {
        Some(cosine) => blend.score(words, blend.likeness(cosine)),
        None => f64::from(words),
    }
}

/// A text property of a found object.
fn text<'v>(object: &'v Value, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}

/// How many candidates Weaviate is asked for, to find so many.
fn candidates(limit: usize) -> u32 {
    u32::try_from((limit * 2).clamp(20, crate::MAX_HITS)).unwrap_or(u32::MAX)
}

/// What came from Weaviate is not what was written: it is passed over.
fn passed_over(what: &str, error: impl std::fmt::Display) {
    tracing::warn!(what, %error, "an object in Weaviate cannot be read; `chimera index rebuild` writes it again");
}

fn connect(options: WeaviateOptions) -> PortResult<Arc<Connection>> {
    let refused = |error: WeaviateError| PortError::new(PortErrorKind::Permanent, error.to_string());
    Connection::new(options).map(Arc::new).map_err(refused)
}

type PortResult<T> = Result<T, PortError>;
