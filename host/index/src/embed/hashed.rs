//! Character n-grams as a short vector, for an index that keeps vectors of one length and nothing else.
//!
//! Each n-gram adds to one of 512 places, with a sign, both chosen by its hash (feature hashing, Weinberger et al., 2009): the
//! cosine of two vectors is that of the n-grams, give or take a few hundredths. It needs no model. Weaviate's BM25 alone
//! would miss every typing error and compound; the figures are in `tests/labelled`. Used for Weaviate when no model is
//! configured.

use super::{Embedder, Embedding, LexicalHashing, ModelName, Purpose, Vector};
use async_trait::async_trait;
use chimera_core::ports::PortError;

/// Numbers of a vector.
const DIMENSIONS: usize = 512;
/// Two texts that share nothing come this near each other by chance.
const UNRELATED: f32 = 0.08;

/// [`LexicalHashing`] folded into vectors of one length.
#[derive(Debug, Clone)]
pub struct HashedLexical {
    name: ModelName,
}

impl Default for HashedLexical {
    fn default() -> Self {
        Self { name: ModelName::new("lexical-hashing-1/512") }
    }
}

#[async_trait]
impl Embedder for HashedLexical {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        let fold = |text: &&str| {
            let mut values = vec![0.0_f32; DIMENSIONS];
            for (gram, weight) in LexicalHashing::grams_of(text) {
                // Mixed once more (Fibonacci hashing), so that place and sign do not follow from each other.
                let mixed = gram.wrapping_mul(0x9e37_79b9);
                let sign = if mixed & 1 == 0 { 1.0 } else { -1.0 };
                values[(mixed >> 23) as usize % DIMENSIONS] += sign * weight;
            }
            Embedding::Dense(Vector::new(self.name.clone(), values))
        };
        Ok(texts.iter().map(fold).collect())
    }

    fn model(&self) -> &ModelName {
        &self.name
    }

    fn share(&self) -> f64 {
        0.25
    }

    fn unrelated(&self) -> f32 {
        UNRELATED
    }
}
