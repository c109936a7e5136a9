//! The search itself: documents in, ranked documents out.
//!
//! Words score by BM25F with a field's own weight, and a query's word counts once however many of its synonyms are
//! there; likeness is the cosine of two embeddings. Both are brought to 0..1 and blended. Pure values, no locks, no
//! I/O. Owned by [`crate::LexicalIndex`] and [`crate::LexicalMemory`].

use crate::embed::{Embedding, hash64};
use crate::synonyms::{concepts_of, phrases_in};
use crate::words::words;
use std::collections::{HashMap, VecDeque};

/// A synonym counts this much of the word itself.
const CONCEPT_WEIGHT: f32 = 0.6;
/// A query's word that no document has counts this much of a rare word, against every document.
const UNKNOWN_WEIGHT: f32 = 0.25;
/// BM25: how soon more occurrences stop mattering, and how much long fields are damped.
const K1: f32 = 1.2;
const B: f32 = 0.5;
/// A weighted number of occurrences at which a word counts in full.
const FULL: f32 = 3.0;
/// Most different words of a query.
const MAX_QUERY_WORDS: usize = 64;
/// In a large corpus a feature that this share of it has is not looked at.
const TOO_COMMON: f32 = 0.2;
const LARGE: usize = 1000;

/// A piece of a document.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// How much a word in it counts.
    pub(crate) weight: f32,
    /// Its usual length in words.
    pub(crate) usual: f32,
    /// Its text.
    pub(crate) text: String,
}

/// The documents that have a feature, in the order in which they came: the oldest is found and removed at once.
type Postings = VecDeque<(DocId, f32)>;

/// A document's number within its corpus.
pub(crate) type DocId = u32;

/// A document that fits a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub(crate) doc: DocId,
    pub(crate) score: f64,
    pub(crate) matched: Vec<String>,
}

#[derive(Debug)]
struct Doc {
    /// Features by hash, ascending, each with its weighted number of occurrences.
    features: Vec<(u64, f32)>,
    embedding: Option<Embedding>,
    norm: f32,
}

/// Documents, their words and their embeddings.
#[derive(Debug, Default)]
pub(crate) struct Corpus {
    docs: Vec<Option<Doc>>,
    free: Vec<DocId>,
    live: usize,
    words: HashMap<u64, Postings>,
    grams: HashMap<u32, Postings>,
    /// Changes since the norms were last computed with the rarities of that moment.
    drift: usize,
}

struct QueryWord {
    shown: String,
    /// Features that count for this word, each with its share.
    features: Vec<(u64, f32)>,
}

fn word_feature(stem: &str) -> u64 {
    hash64(stem)
}

fn concept_feature(concept: crate::synonyms::Concept) -> u64 {
    hash64(&format!("~{}", concept.0))
}

impl Corpus {
    /// Adds a document; returns its number.
    pub(crate) fn add(&mut self, fields: &[Field], embedding: Option<Embedding>) -> DocId {
        let features = features_of(fields);
        let id = self.free.pop().unwrap_or_else(|| {
            self.docs.push(None);
            DocId::try_from(self.docs.len() - 1).unwrap_or(DocId::MAX)
        });
        self.live += 1;
        for (feature, count) in &features {
            self.words.entry(*feature).or_default().push_back((id, *count));
        }
        if let Some(Embedding::Sparse(grams)) = &embedding {
            for (gram, weight) in grams {
                self.grams.entry(*gram).or_default().push_back((id, *weight));
            }
        }
        let norm = embedding.as_ref().map_or(0.0, |embedding| self.norm_of(embedding));
        if let Some(place) = self.docs.get_mut(id as usize) {
            *place = Some(Doc { features, embedding, norm });
        }
        self.settle();
        id
    }

    /// Removes a document; its number may be given to another.
    pub(crate) fn remove(&mut self, id: DocId) {
        let Some(doc) = self.docs.get_mut(id as usize).and_then(Option::take) else { return };
        self.live -= 1;
        self.free.push(id);
        for (feature, _) in &doc.features {
            drop_posting(&mut self.words, feature, id);
        }
        if let Some(Embedding::Sparse(grams)) = &doc.embedding {
            for (gram, _) in grams {
                drop_posting(&mut self.grams, gram, id);
            }
        }
        self.settle();
    }

    /// Number of documents.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    /// Rarity of something that so many documents have (Robertson and Spärck Jones, smoothed).
    fn rarity(&self, having: usize) -> f32 {
        let (all, having) = (self.live as f32, having as f32);
        (1.0 + (all - having + 0.5).max(0.0) / (having + 0.5)).ln()
    }

    fn rarity_of_gram(&self, gram: u32) -> f32 {
        self.rarity(self.grams.get(&gram).map_or(0, Postings::len))
    }

    fn norm_of(&self, embedding: &Embedding) -> f32 {
        match embedding {
            Embedding::Sparse(grams) => {
                grams.iter().map(|(gram, weight)| (weight * self.rarity_of_gram(*gram)).powi(2)).sum::<f32>().sqrt()
            }
            Embedding::Dense(values) => values.iter().map(|value| value * value).sum::<f32>().sqrt(),
        }
    }

    /// Rarities move with every document, norms with them: computed again when a twentieth of the corpus has changed.
    fn settle(&mut self) {
        self.drift += 1;
        if self.drift * 20 < self.live {
            return;
        }
        self.drift = 0;
        let norms: Vec<f32> = self
            .docs
            .iter()
            .map(|doc| doc.as_ref().and_then(|doc| doc.embedding.as_ref()).map_or(0.0, |e| self.norm_of(e)))
            .collect();
        for (doc, norm) in self.docs.iter_mut().zip(norms) {
            if let Some(doc) = doc {
                doc.norm = norm;
            }
        }
    }

    /// The documents nearest to a query, best first; those that share nothing with it are left out.
    pub(crate) fn search(&self, query: &str, embedding: Option<&Embedding>, share: f64, limit: usize) -> Vec<Hit> {
        let query = query_words(query);
        let by_words = self.score_words(&query);
        let by_likeness = embedding.map_or_else(Vec::new, |embedding| self.score_likeness(embedding));
        // Without an embedding nothing may be taken off for the likeness that is missing.
        let share = if by_likeness.is_empty() { 0.0 } else { share.clamp(0.0, 1.0) };
        let mut hits: Vec<(DocId, f64)> = (0..self.docs.len())
            .filter_map(|at| {
                self.docs[at].as_ref()?;
                let at_or_zero = |scores: &[f32]| f64::from(scores.get(at).copied().unwrap_or(0.0));
                let score = (1.0 - share) * at_or_zero(&by_words) + share * at_or_zero(&by_likeness);
                (score > 0.0).then_some((at as DocId, score.min(1.0)))
            })
            .collect();
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        hits.truncate(limit.min(crate::MAX_HITS));
        hits.into_iter().map(|(doc, score)| Hit { doc, score, matched: self.matched(doc, &query) }).collect()
    }

    fn score_words(&self, query: &[QueryWord]) -> Vec<f32> {
        let mut scores = vec![0.0_f32; self.docs.len()];
        let mut best = vec![0.0_f32; self.docs.len()];
        let mut wanted = 0.0_f32;
        for word in query {
            let mut importance = 0.0_f32;
            let mut touched = Vec::new();
            for (feature, share) in &word.features {
                let Some(postings) = self.words.get(feature) else { continue };
                let rarity = self.rarity(postings.len());
                importance = importance.max(rarity);
                if self.is_too_common(postings.len()) {
                    continue;
                }
                for (doc, count) in postings {
                    let place = &mut best[*doc as usize];
                    if *place == 0.0 {
                        touched.push(*doc);
                    }
                    *place = place.max(share * rarity * saturated(*count));
                }
            }
            wanted += if importance > 0.0 { importance } else { UNKNOWN_WEIGHT * self.rarity(0) };
            for doc in touched {
                scores[doc as usize] += std::mem::take(&mut best[doc as usize]);
            }
        }
        // One rare word is the least that a full score asks for: a query of common words only cannot be sure.
        let full = wanted.max(self.rarity(1));
        if full > 0.0 {
            scores.iter_mut().for_each(|score| *score = (*score / full).min(1.0));
        }
        scores
    }

    fn is_too_common(&self, having: usize) -> bool {
        self.live > LARGE && having as f32 > TOO_COMMON * self.live as f32
    }

    fn score_likeness(&self, query: &Embedding) -> Vec<f32> {
        let norm = self.norm_of(query);
        if norm == 0.0 {
            return Vec::new();
        }
        let mut scores = vec![0.0_f32; self.docs.len()];
        match query {
            Embedding::Sparse(grams) => {
                for (gram, weight) in grams {
                    let Some(postings) = self.grams.get(gram) else { continue };
                    if self.is_too_common(postings.len()) {
                        continue;
                    }
                    let factor = weight * self.rarity(postings.len()).powi(2);
                    for (doc, count) in postings {
                        scores[*doc as usize] += factor * count;
                    }
                }
            }
            Embedding::Dense(wanted) => {
                for (score, doc) in scores.iter_mut().zip(&self.docs) {
                    if let Some(Doc { embedding: Some(Embedding::Dense(values)), .. }) = doc {
                        *score = wanted.iter().zip(values).map(|(a, b)| a * b).sum();
                    }
                }
            }
        }
        for (score, doc) in scores.iter_mut().zip(&self.docs) {
            let length = doc.as_ref().map_or(0.0, |doc| doc.norm) * norm;
            *score = if length > 0.0 { (*score / length).clamp(0.0, 1.0) } else { 0.0 };
        }
        scores
    }

    fn matched(&self, doc: DocId, query: &[QueryWord]) -> Vec<String> {
        let Some(Some(doc)) = self.docs.get(doc as usize) else { return Vec::new() };
        let has = |feature: &u64| doc.features.binary_search_by_key(feature, |(known, _)| *known).is_ok();
        let fits = |word: &&QueryWord| word.features.iter().any(|(feature, _)| has(feature));
        query.iter().filter(fits).map(|word| word.shown.clone()).collect()
    }

    /// Does any document have this word? (For tests of removal.)
    #[cfg(test)]
    fn knows(&self, word: &str) -> bool {
        self.words.contains_key(&word_feature(&crate::words::stem(word)))
    }
}

fn saturated(count: f32) -> f32 {
    let full = FULL / (FULL + K1);
    (count / (count + K1) / full).min(1.0)
}

fn drop_posting<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Postings>, key: &K, id: DocId) {
    if let Some(postings) = map.get_mut(key) {
        if let Some(at) = postings.iter().position(|(doc, _)| *doc == id) {
            postings.remove(at);
        }
        if postings.is_empty() {
            map.remove(key);
        }
    }
}

fn features_of(fields: &[Field]) -> Vec<(u64, f32)> {
    let mut counts: HashMap<u64, f32> = HashMap::new();
    for field in fields {
        let words = words(&field.text, crate::MAX_TEXT_BYTES);
        let length = words.iter().filter(|word| !word.is_stop).count() as f32;
        let share = field.weight / (1.0 - B + B * length / field.usual);
        for word in words.iter().filter(|word| !word.is_stop) {
            *counts.entry(word_feature(&word.stem)).or_default() += share;
            for concept in concepts_of(&word.stem) {
                *counts.entry(concept_feature(*concept)).or_default() += share;
            }
        }
        for (_, _, concept) in phrases_in(&words) {
            *counts.entry(concept_feature(concept)).or_default() += share;
        }
    }
    let mut features: Vec<(u64, f32)> = counts.into_iter().collect();
    features.sort_unstable_by_key(|(feature, _)| *feature);
    features
}

fn query_words(query: &str) -> Vec<QueryWord> {
    let words = words(query, crate::MAX_QUERY_BYTES);
    let phrases = phrases_in(&words);
    let mut found: Vec<QueryWord> = Vec::new();
    for (start, end, concept) in &phrases {
        let shown: Vec<&str> = words[*start..=*end].iter().map(|word| word.shown.as_str()).collect();
        found.push(QueryWord { shown: shown.join(" "), features: vec![(concept_feature(*concept), CONCEPT_WEIGHT)] });
    }
    // The words of a phrase mean something else by themselves ("boil", "down"): they count only where they stand.
    let in_phrase = |at: usize| phrases.iter().any(|(start, end, _)| (*start..=*end).contains(&at));
    for (at, word) in words.iter().enumerate().filter(|(_, word)| !word.is_stop) {
        let own = word_feature(&word.stem);
        if found.len() >= MAX_QUERY_WORDS || found.iter().any(|known| known.features[0].0 == own) {
            continue;
        }
        if in_phrase(at) && concepts_of(&word.stem).is_empty() {
            continue;
        }
        let concepts = concepts_of(&word.stem).iter().map(|concept| (concept_feature(*concept), CONCEPT_WEIGHT));
        found.push(QueryWord {
            shown: word.shown.clone(),
            features: std::iter::once((own, 1.0)).chain(concepts).collect(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::LexicalHashing;
    use proptest::prelude::*;

    fn field(text: &str) -> [Field; 1] {
        [Field { weight: 1.0, usual: 8.0, text: text.to_owned() }]
    }

    fn search(corpus: &Corpus, query: &str) -> Vec<Hit> {
        corpus.search(query, Some(&LexicalHashing::embed_one(query)), 0.25, 10)
    }

    fn corpus(texts: &[&str]) -> Corpus {
        let mut corpus = Corpus::default();
        for text in texts {
            corpus.add(&field(text), Some(LexicalHashing::embed_one(text)));
        }
        corpus
    }

    #[test]
    fn a_removed_document_leaves_nothing_behind() {
        let mut corpus = corpus(&["red apples", "green pears"]);
        corpus.remove(0);
        assert!(!corpus.knows("apples") && corpus.knows("pears"));
        assert!(search(&corpus, "apples").is_empty());
        assert_eq!(corpus.add(&field("blue plums"), None), 0, "the number is free again");
        assert_eq!(corpus.len(), 2);
        assert_eq!(search(&corpus, "plum")[0].doc, 0);
    }

    #[test]
    fn typing_errors_still_find() {
        let corpus = corpus(&["summarize long documents", "paint walls", "bake bread"]);
        assert_eq!(search(&corpus, "sumarize dokuments")[0].doc, 0);
    }

    #[test]
    fn dense_vectors_are_compared_by_angle() {
        let mut corpus = Corpus::default();
        corpus.add(&field("a1"), Some(Embedding::Dense(vec![1.0, 0.0])));
        corpus.add(&field("b2"), Some(Embedding::Dense(vec![0.6, 0.8])));
        let hits = corpus.search("zzz", Some(&Embedding::Dense(vec![0.0, 2.0])), 1.0, 10);
        assert_eq!(hits.len(), 1);
        assert!((hits[0].score - 0.8).abs() < 1e-6 && hits[0].doc == 1);
    }

    proptest! {
        #[test]
        fn scores_are_between_0_and_1_and_sorted(
            texts in prop::collection::vec(".{0,60}", 0..12),
            removed in prop::collection::vec(0_u32..12, 0..6),
            query in ".{0,80}",
        ) {
            let mut corpus = Corpus::default();
            for text in &texts {
                corpus.add(&field(text), Some(LexicalHashing::embed_one(text)));
            }
            for id in removed {
                corpus.remove(id);
            }
            let hits = search(&corpus, &query);
            prop_assert!(hits.iter().all(|hit| hit.score > 0.0 && hit.score <= 1.0));
            prop_assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            prop_assert!(hits.len() <= corpus.len());
        }

        #[test]
        fn a_document_finds_itself(texts in prop::collection::hash_set("[b-df-hj-np-tv-z]{5,8}", 2..8)) {
            let texts: Vec<String> = texts.into_iter().collect();
            let mut corpus = Corpus::default();
            for text in &texts {
                corpus.add(&field(text), Some(LexicalHashing::embed_one(text)));
            }
            for (number, text) in texts.iter().enumerate() {
                let hits = search(&corpus, text);
                prop_assert_eq!(hits[0].doc as usize, number);
            }
        }
    }
}
