//! Words as numbers: keys, a vocabulary with document frequencies, TF-IDF vectors and their cosine.
//! Nothing here depends on a hash seed; order comes from the text. Called by the skills that compare texts.

use std::collections::BTreeMap;

use crate::stopwords::StopWords;
use crate::tokens::{Kind, Token};

/// What a word counts as: small letters, no possessive, English plurals as their singular.
#[must_use]
pub fn key(word: &str) -> String {
    let mut key = word.to_lowercase();
    for tail in ["'s", "’s"] {
        if key.len() > tail.len() + 1 && key.ends_with(tail) {
            key.truncate(key.len() - tail.len());
        }
    }
    singular(&mut key);
    key
}

/// Takes off an English plural. It is careful rather than complete: what it leaves alone only counts apart.
fn singular(key: &mut String) {
    let ascii = key.is_ascii() && key.len() > 3;
    if !ascii || !key.ends_with('s') {
        return;
    }
    if key.ends_with("ies") && key.len() > 4 {
        key.truncate(key.len() - 3);
        key.push('y');
    } else if ["sses", "shes", "ches", "xes", "zes"].iter().any(|tail| key.ends_with(tail)) {
        key.truncate(key.len() - 2);
    } else if !["ss", "us", "is", "as", "os", "ews"].iter().any(|tail| key.ends_with(tail)) {
        key.truncate(key.len() - 1);
    }
}

/// A sparse vector of unit length: term and weight, by term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector(Vec<(u32, f64)>);

impl Vector {
    /// The terms and weights, by term.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.0.iter().copied()
    }

    /// Number of different terms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Has it no terms?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The cosine of two vectors of unit length, 0 to 1.
#[must_use]
pub fn cosine(a: &Vector, b: &Vector) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some((x, v)), Some((y, w))) = (a.0.get(i), b.0.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += v * w;
                i += 1;
                j += 1;
            }
        }
    }
    sum.min(1.0)
}

/// The terms of a collection of documents.
#[derive(Debug, Default)]
pub struct Vocabulary {
    ids: BTreeMap<String, u32>,
    words: Vec<Word>,
    documents: u32,
}

#[derive(Debug, Default)]
struct Word {
    key: String,
    document_frequency: u32,
    count: u32,
    surfaces: BTreeMap<String, u32>,
}

impl Vocabulary {
    /// The content terms of a document as ids, in order; counts the document.
    pub fn add(&mut self, tokens: &[Token<'_>], stop: &StopWords) -> Vec<u32> {
        self.documents += 1;
        let mut found = Vec::new();
        for token in tokens {
            if !is_content(token, stop) {
                continue;
            }
            let id = self.intern(&key(token.text));
            if let Some(word) = self.words.get_mut(id as usize) {
                word.count += 1;
                *word.surfaces.entry(token.text.to_owned()).or_default() += 1;
            }
            found.push(id);
        }
        let mut distinct = found.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for id in distinct {
            if let Some(word) = self.words.get_mut(id as usize) {
                word.document_frequency += 1;
            }
        }
        found
    }

    fn intern(&mut self, key: &str) -> u32 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.ids.insert(key.to_owned(), id);
        self.words.push(Word { key: key.to_owned(), ..Word::default() });
        id
    }

    /// The id of a word, if some document has it.
    #[must_use]
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(&key(word)).copied()
    }

    /// The key of a term.
    #[must_use]
    pub fn key_of(&self, id: u32) -> &str {
        self.words.get(id as usize).map_or("", |word| word.key.as_str())
    }

    /// The most frequent way in which a term is written; among equals the first by alphabet.
    #[must_use]
    pub fn surface(&self, id: u32) -> &str {
        self.words
            .get(id as usize)
            .and_then(|word| word.surfaces.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))))
            .map_or("", |(surface, _)| surface.as_str())
    }

    /// How often a term occurs in all documents together.
    #[must_use]
    pub fn count(&self, id: u32) -> u32 {
        self.words.get(id as usize).map_or(0, |word| word.count)
    }

    /// Number of different terms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Has no document any term?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Smoothed inverse document frequency: always positive, small for what is everywhere.
    #[must_use]
    pub fn idf(&self, id: u32) -> f64 {
        let frequency = self.words.get(id as usize).map_or(0, |word| word.document_frequency);
        (1.0 + f64::from(self.documents) / (1.0 + f64::from(frequency))).ln()
    }

    /// The TF-IDF vector of some terms, of unit length.
    #[must_use]
    pub fn vector(&self, terms: &[u32]) -> Vector {
        let mut counts = BTreeMap::<u32, f64>::new();
        for term in terms {
            *counts.entry(*term).or_default() += 1.0;
        }
        let mut weights: Vec<(u32, f64)> =
            counts.into_iter().map(|(term, count)| (term, (1.0 + count.ln()) * self.idf(term))).collect();
        let length = weights.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
        if length > 0.0 {
            for (_, weight) in &mut weights {
                *weight /= length;
            }
        }
        Vector(weights)
    }
}

/// Says the token something by itself? Numbers, links, mentions, stop words and single letters do not.
fn is_content(token: &Token<'_>, stop: &StopWords) -> bool {
    matches!(token.kind, Kind::Word | Kind::Hashtag)
        && token.text.chars().any(char::is_alphabetic)
        && (token.text.chars().nth(1).is_some() || token.text.chars().all(crate::fold::is_wide))
        && !stop.contains(token.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    #[test]
    fn keys_join_what_is_the_same_word() {
        for (word, same) in
            [("Cats", "cat"), ("Rust’s", "rust"), ("stories", "story"), ("boxes", "box"), ("classes", "class")]
        {
            assert_eq!(key(word), same);
        }
        for word in ["news", "virus", "analysis", "glass", "gas", "größe", "yes"] {
            assert_eq!(key(word), word);
        }
    }

    #[test]
    fn vectors_measure_likeness() {
        let stop = StopWords::of_all();
        let mut vocabulary = Vocabulary::default();
        let texts = ["Rust compiles to WebAssembly", "WebAssembly runs Rust code", "Cats sleep all day"];
        let documents: Vec<Vec<u32>> = texts.iter().map(|text| vocabulary.add(&tokens(text), &stop)).collect();
        let vectors: Vec<Vector> = documents.iter().map(|terms| vocabulary.vector(terms)).collect();
        assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-9);
        assert!(cosine(&vectors[0], &vectors[1]) > 0.3);
        assert_eq!(cosine(&vectors[0], &vectors[2]), 0.0);
        assert_eq!(vocabulary.surface(vocabulary.id("webassembly").unwrap()), "WebAssembly");
        assert!(vocabulary.vector(&[]).is_empty());
    }
}
