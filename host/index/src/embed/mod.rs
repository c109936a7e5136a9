//! Embeddings: texts as vectors whose angle says how alike they are.
//!
//! [`Embedder`] is the seam where a language model or a remote endpoint can take the place of [`LexicalHashing`],
//! which needs neither. An embedding is never stored outside the process. Called by [`crate::corpus`]'s owners.

use crate::words::words;
use async_trait::async_trait;
use chimera_core::ports::PortError;
use std::collections::BTreeMap;

/// A text as a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedding {
    /// Few features out of very many, by number, ascending; the index weighs them by rarity.
    Sparse(Vec<(u32, f32)>),
    /// A learned vector; compared by its angle as it is.
    Dense(Vec<f32>),
}

/// Turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// One embedding a text, all of the same kind and, if dense, of the same length.
    ///
    /// # Errors
    /// [`PortError`] if a model or an endpoint cannot answer; the index then goes by words alone.
    async fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, PortError>;

    /// The share of the likeness in a hit's score, 0 to 1; the rest goes by words.
    fn share(&self) -> f64;
}

/// Character n-grams of words, hashed: finds other endings, compounds and typing errors, in any language, at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct LexicalHashing;

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
        Embedding::Sparse(features.into_iter().map(|(feature, count)| (feature, 1.0 + count.ln())).collect())
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
    async fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, PortError> {
        Ok(texts.iter().map(|text| Self::embed_one(text)).collect())
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
