//! Embeddings: texts as vectors whose angle says how alike they are.
//!
//! [`Embedder`] is the seam where a language model ([`MiniLm`]) or a remote endpoint ([`Endpoint`]) can take the place of
//! [`LexicalHashing`], which needs neither; [`Remembering`] keeps what they have answered. A learned vector carries the name
//! of the model that made it wherever it goes, because vectors of two models cannot be compared. Called by the indexes.

mod endpoint;
mod hashed;
mod minilm;
mod remembering;

pub use endpoint::{Endpoint, EndpointError, EndpointOptions};
pub use hashed::HashedLexical;
pub use minilm::{DIMENSIONS as MINILM_DIMENSIONS, FILES as MODEL_FILES, MiniLm, ModelError};
pub use remembering::{RememberError, Remembering};

use crate::words::words;
use async_trait::async_trait;
use chimera_core::ports::PortError;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Which model made a vector: its own name and whatever tells one edition of it from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// Longest name in bytes; the rest of a longer one is cut off.
    pub const MAX_BYTES: usize = 256;

    /// A model's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(chimera_core::text::truncated(name.into(), Self::MAX_BYTES).into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A learned vector of length 1, and what made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    model: ModelName,
    values: Arc<[f32]>,
}

impl Vector {
    /// Most numbers of a vector.
    pub const MAX_DIMENSIONS: usize = 4096;

    /// A model's answer, brought to length 1. Numbers that are none (NaN, infinite) count as 0; a vector of zeroes is like
    /// nothing.
    pub fn new(model: ModelName, mut values: Vec<f32>) -> Self {
        values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = 0.0);
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            values.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        Self { model, values: values.into() }
    }

    /// What made it.
    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// A text as a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedding {
    /// Few features out of very many, by number, ascending; the index weighs them by rarity.
    Sparse(Vec<(u32, f32)>),
    /// A learned vector; compared by its angle as it is.
    Dense(Vector),
}

/// What a text is embedded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is searched: its vector may be kept.
    Document,
    /// Somebody searches with it: it is theirs and is never written anywhere.
    Query,
}

/// Turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// One embedding a text, all of the same kind and, if dense, of the same length.
    ///
    /// # Errors
    /// [`PortError`] if a model or an endpoint cannot answer; the index then goes by words alone.
    async fn embed(&self, texts: &[&str], purpose: Purpose) -> Result<Vec<Embedding>, PortError>;

    /// Which model this is; the name changes whenever its vectors do.
    fn model(&self) -> &ModelName;

    /// The share of the likeness in a hit's score, 0 to 1; the rest goes by words.
    fn share(&self) -> f64;

    /// The cosine of texts that have nothing to do with each other: what counts as no likeness at all.
    fn unrelated(&self) -> f32 {
        0.0
    }
}

/// The embedding of one text, or none if the embedder cannot answer: then words alone must do.
pub(crate) async fn embed_one(embedder: &dyn Embedder, text: &str, purpose: Purpose) -> Option<Embedding> {
    embedder.embed(&[text], purpose).await.ok()?.pop()
}

/// A text cut to a number of bytes at most, between two characters.
fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..chimera_core::text::floor_char_boundary(text, max_bytes)]
}

/// Character n-grams of words, hashed: finds other endings, compounds and typing errors, in any language, at once.
#[derive(Debug, Clone)]
pub struct LexicalHashing {
    name: ModelName,
}

impl Default for LexicalHashing {
    fn default() -> Self {
        Self { name: ModelName::new("lexical-hashing-1") }
    }
}

/// Lengths of the n-grams in characters.
const GRAMS: std::ops::RangeInclusive<usize> = 3..=5;
/// Most different features of one text.
const MAX_FEATURES: usize = 2048;
/// Features are so many that a language's n-grams hardly meet, and so few that texts made to have none in common cannot
/// fill the memory with lists of one.
const GRAM_MASK: u32 = (1 << 20) - 1;

impl LexicalHashing {
    /// The embedding of one text; never fails.
    pub fn embed_one(text: &str) -> Embedding {
        Embedding::Sparse(Self::grams_of(text))
    }

    /// The n-grams of a text with their weights, by number, ascending.
    pub(crate) fn grams_of(text: &str) -> Vec<(u32, f32)> {
        let mut features: BTreeMap<u32, f32> = BTreeMap::new();
        for word in words(text, crate::MAX_TEXT_BYTES).iter().filter(|word| !word.is_stop) {
            for_each_gram(&word.shown, |gram| {
                let gram = gram & GRAM_MASK;
                if features.len() < MAX_FEATURES {
                    *features.entry(gram).or_default() += 1.0;
                }
            });
        }
        // The second time a word comes it says less than the first.
        features.into_iter().map(|(feature, count)| (feature, 1.0 + count.ln())).collect()
    }
}

fn for_each_gram(word: &str, mut take: impl FnMut(u32)) {
    let marked: Vec<char> = std::iter::once('^').chain(word.chars()).chain(['$']).collect();
    let mut buffer = String::with_capacity(24);
    for length in GRAMS {
        for gram in marked.windows(length) {
            buffer.clear();
            buffer.extend(gram);
            take(hash32(&buffer));
        }
    }
}

#[async_trait]
impl Embedder for LexicalHashing {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        Ok(texts.iter().map(|text| Self::embed_one(text)).collect())
    }

    fn model(&self) -> &ModelName {
        &self.name
    }

    fn share(&self) -> f64 {
        0.25
    }
}

/// FNV-1a (Fowler, Noll, Vo). Features collide harmlessly, so no key is needed.
pub(crate) fn hash64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hash32(text: &str) -> u32 {
    let hash = hash64(text);
    ((hash >> 32) ^ (hash & 0xffff_ffff)) as u32
}
