//! The search itself: documents in, ranked documents out.
//!
//! Words score by BM25F with a field's own weight, and a query's word counts once however many of its synonyms are
//! there; likeness is the cosine of two embeddings. Both are brought to 0..1 and blended. First everything that a query's
//! features lead to is scored roughly, then the best are scored exactly: so a search takes milliseconds among a hundred
//! thousand documents. Pure values, no locks, no I/O. Owned by [`crate::LexicalIndex`] and [`crate::LexicalMemory`].

use crate::dense::Dense;
use crate::embed::{Embedding, Vector, hash64};
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
/// Most entries of the n-grams' lists that a search walks along, rarest n-grams first; what it leaves out counts only for
/// the documents that are scored exactly.
const GRAM_BUDGET: usize = 150_000;
/// Most entries of the words' lists, likewise.
const WORD_BUDGET: usize = 1_000_000;
/// Documents that are scored exactly, for each that is wanted and at least.
const CANDIDATES_EACH: usize = 4;
const CANDIDATES_LEAST: usize = 100;
/// The norms are computed again when this share of a corpus has changed, a large one's later: it takes longer there.
const DRIFT: usize = 20;
const DRIFT_WHEN_LARGE: usize = 3;
const LARGE_DRIFT: usize = 10_000;

/// How words and likeness make one score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blend {
    /// The share of the likeness, 0 to 1.
    pub(crate) share: f64,
    /// The cosine that counts as no likeness.
    pub(crate) unrelated: f32,
}

impl Blend {
    /// As an embedder wants it.
    pub(crate) fn of(embedder: &dyn crate::embed::Embedder) -> Self {
        Self { share: embedder.share().clamp(0.0, 1.0), unrelated: embedder.unrelated().clamp(0.0, 0.99) }
    }

    /// A cosine as a likeness, 0 to 1.
    pub(crate) fn likeness(self, cosine: f32) -> f32 {
        ((cosine - self.unrelated) / (1.0 - self.unrelated)).clamp(0.0, 1.0)
    }

    /// The score, 0 to 1.
    pub(crate) fn score(self, words: f32, likeness: f32) -> f64 {
        ((1.0 - self.share) * f64::from(words) + self.share * f64::from(likeness)).clamp(0.0, 1.0)
    }
}

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
    /// Its n-grams, if it was embedded that way.
    grams: Vec<(u32, f32)>,
}

/// Documents, their words and their embeddings.
#[derive(Debug, Default)]
pub(crate) struct Corpus {
    docs: Vec<Option<Doc>>,
    free: Vec<DocId>,
    live: usize,
    words: HashMap<u64, Postings>,
    grams: HashMap<u32, Postings>,
    /// Lengths of the documents' n-grams' vectors; 0 for those that have none.
    norms: Vec<f32>,
    dense: Dense,
    /// Changes since the norms were last computed with the rarities of that moment.
    drift: usize,
}

struct QueryWord {
    shown: String,
    terms: Vec<String>,
    /// The same as features, each with its share.
    features: Vec<(u64, f32)>,
}

impl QueryWord {
    fn new(shown: String, terms: Vec<(String, f32)>) -> Self {
        let features = terms.iter().map(|(term, share)| (hash64(term), *share)).collect();
        Self { shown, features, terms: terms.into_iter().map(|(term, _)| term).collect() }
    }
}

/// What the term of a group of synonyms begins with; no stem does.
const CONCEPT_MARK: char = '~';

fn concept_term(concept: crate::synonyms::Concept) -> String {
    format!("{CONCEPT_MARK}{}", concept.0)
}

impl Corpus {
    /// Adds a document; returns its number.
    pub(crate) fn add(&mut self, fields: &[Field], embedding: Option<Embedding>) -> DocId {
        let features = features_of(fields);
        let id = self.free.pop().unwrap_or_else(|| {
            self.docs.push(None);
            self.norms.push(0.0);
            DocId::try_from(self.docs.len() - 1).unwrap_or(DocId::MAX)
        });
        self.live += 1;
        for (feature, count) in &features {
            self.words.entry(*feature).or_default().push_back((id, *count));
        }
        let grams = match embedding {
            Some(Embedding::Sparse(grams)) => grams,
            Some(Embedding::Dense(vector)) => {
                self.dense.put(id, &vector);
                Vec::new()
            }
            None => Vec::new(),
        };
        for (gram, weight) in &grams {
            self.grams.entry(*gram).or_default().push_back((id, *weight));
        }
        let norm = self.norm_of(&grams);
        if let (Some(place), Some(place_of_norm)) = (self.docs.get_mut(id as usize), self.norms.get_mut(id as usize)) {
            *place = Some(Doc { features, grams });
            *place_of_norm = norm;
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
        for (gram, _) in &doc.grams {
            drop_posting(&mut self.grams, gram, id);
        }
        self.dense.remove(id);
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

    fn norm_of(&self, grams: &[(u32, f32)]) -> f32 {
        grams.iter().map(|(gram, weight)| (weight * self.rarity_of_gram(*gram)).powi(2)).sum::<f32>().sqrt()
    }

    /// Rarities move with every document, and norms with them.
    fn settle(&mut self) {
        self.drift += 1;
        if self.drift * if self.live > LARGE_DRIFT { DRIFT_WHEN_LARGE } else { DRIFT } < self.live {
            return;
        }
        self.drift = 0;
        let norms = self.docs.iter().map(|doc| doc.as_ref().map_or(0.0, |doc| self.norm_of(&doc.grams))).collect();
        self.norms = norms;
    }

    /// The documents nearest to a query, best first; those that share nothing with it are left out.
    pub(crate) fn search(&self, query: &str, embedding: Option<&Embedding>, blend: Blend, limit: usize) -> Vec<Hit> {
        let limit = limit.min(crate::MAX_HITS);
        let query = query_words(query);
        let mut by_words = self.score_words(&query);
        let candidates = (CANDIDATES_EACH * limit).max(CANDIDATES_LEAST);
        let scored = match embedding {
            Some(Embedding::Sparse(grams)) if self.norm_of(grams) > 0.0 => {
                self.blend_with_grams(&mut by_words, grams, blend, candidates)
            }
            Some(Embedding::Dense(vector)) if self.dense.is_of_this_model(vector) => {
                self.blend_with_vectors(&by_words, vector, blend, candidates)
            }
            // Without an embedding nothing may be taken off for the likeness that is missing.
            _ => by_words.best(candidates).into_iter().map(|(doc, score)| (doc, f64::from(score))).collect(),
        };
        let mut hits: Vec<(DocId, f64)> = scored.into_iter().filter(|(_, score)| *score > 0.0).collect();
        hits.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        hits.dedup_by_key(|(doc, _)| *doc);
        hits.truncate(limit);
        hits.into_iter().map(|(doc, score)| Hit { doc, score, matched: self.matched(doc, &query) }).collect()
    }

    fn blend_with_grams(
        &self,
        by_words: &mut Scores,
        grams: &[(u32, f32)],
        blend: Blend,
        candidates: usize,
    ) -> Vec<(DocId, f64)> {
        let norm = self.norm_of(grams);
        let words = by_words.values.clone();
        let share = blend.share as f32;
        // Roughly: by the rarer n-grams only, added to the words' score in its own measure.
        by_words.scale(1.0 - share);
        let mut roughly = self.score_grams(grams);
        for doc in std::mem::take(&mut roughly.touched) {
            let length = self.norms[doc as usize] * norm;
            if length > 0.0 {
                by_words.add(doc, share * blend.likeness(roughly.values[doc as usize] / length));
            }
        }
        let best = by_words.best(candidates);
        best.into_iter()
            .map(|(doc, _)| {
                let length = self.norms[doc as usize] * norm;
                let cosine = if length > 0.0 { self.likeness_of(doc, grams) / length } else { 0.0 };
                (doc, blend.score(words[doc as usize], blend.likeness(cosine)))
            })
            .collect()
    }

    fn blend_with_vectors(
        &self,
        by_words: &Scores,
        vector: &Vector,
        blend: Blend,
        candidates: usize,
    ) -> Vec<(DocId, f64)> {
        let mut found = self.dense.nearest(vector, candidates);
        found.extend(by_words.best(candidates).into_iter().map(|(doc, _)| {
            // A document that has no vector (the model could not answer then) goes by its words.
            (doc, self.dense.cosine(doc, vector).unwrap_or(0.0))
        }));
        found.sort_unstable_by_key(|(doc, _)| *doc);
        found.dedup_by_key(|(doc, _)| *doc);
        let scored = found.into_iter();
        scored.map(|(doc, cosine)| (doc, blend.score(by_words.values[doc as usize], blend.likeness(cosine)))).collect()
    }

    fn score_words(&self, query: &[QueryWord]) -> Scores {
        let mut scores = Scores::new(self.docs.len());
        let mut best = Scores::new(self.docs.len());
        let mut wanted = 0.0_f32;
        let mut budget = WORD_BUDGET;
        for word in query {
            let mut importance = 0.0_f32;
            for (feature, share) in &word.features {
                let Some(postings) = self.words.get(feature) else { continue };
                let rarity = self.rarity(postings.len());
                importance = importance.max(rarity);
                if self.is_too_common(postings.len()) || postings.len() > budget {
                    continue;
                }
                budget -= postings.len();
                for (doc, count) in postings {
                    best.raise(*doc, share * rarity * saturated(*count));
                }
            }
            wanted += if importance > 0.0 { importance } else { UNKNOWN_WEIGHT * self.rarity(0) };
            for doc in best.touched.drain(..) {
                scores.add(doc, std::mem::take(&mut best.values[doc as usize]));
            }
        }
        // One rare word is the least that a full score asks for: a query of common words only cannot be sure.
        let full = wanted.max(self.rarity(1));
        if full > 0.0 {
            scores.scale(1.0 / full);
        }
        scores
    }

    fn is_too_common(&self, having: usize) -> bool {
        self.live > LARGE && having as f32 > TOO_COMMON * self.live as f32
    }

    /// What the rarest n-grams say, as far as the budget goes; not yet divided by the norms.
    fn score_grams(&self, grams: &[(u32, f32)]) -> Scores {
        let mut lists: Vec<(&Postings, f32)> =
            grams.iter().filter_map(|(gram, weight)| Some((self.grams.get(gram)?, *weight))).collect();
        lists.sort_unstable_by_key(|(postings, _)| postings.len());
        let mut scores = Scores::new(self.docs.len());
        let mut budget = GRAM_BUDGET;
        for (postings, weight) in lists {
            if self.is_too_common(postings.len()) || postings.len() > budget {
                break;
            }
            budget -= postings.len();
            let factor = weight * self.rarity(postings.len()).powi(2);
            for (doc, count) in postings {
                scores.add(*doc, factor * count);
            }
        }
        scores
    }

    /// What all n-grams that a document shares with a query say; both lists are in order.
    fn likeness_of(&self, doc: DocId, grams: &[(u32, f32)]) -> f32 {
        let Some(Some(doc)) = self.docs.get(doc as usize) else { return 0.0 };
        let mut sum = 0.0;
        for (gram, weight) in grams {
            if let Ok(at) = doc.grams.binary_search_by_key(gram, |(known, _)| *known) {
                sum += weight * doc.grams[at].1 * self.rarity_of_gram(*gram).powi(2);
            }
        }
        sum
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
        self.words.contains_key(&hash64(&crate::words::stem(word)))
    }
}

/// A number a document, and which documents have one: so that nobody walks over all of them.
struct Scores {
    values: Vec<f32>,
    touched: Vec<DocId>,
}

impl Scores {
    fn new(documents: usize) -> Self {
        Self { values: vec![0.0; documents], touched: Vec::new() }
    }

    fn place(&mut self, doc: DocId) -> &mut f32 {
        let place = &mut self.values[doc as usize];
        if *place == 0.0 {
            self.touched.push(doc);
        }
        place
    }

    fn add(&mut self, doc: DocId, value: f32) {
        if value > 0.0 {
            *self.place(doc) += value;
        }
    }

    fn raise(&mut self, doc: DocId, value: f32) {
        let place = self.place(doc);
        *place = place.max(value);
    }

    /// Multiplies what is there; nothing becomes more than 1.
    fn scale(&mut self, factor: f32) {
        for doc in &self.touched {
            let value = &mut self.values[*doc as usize];
            *value = (*value * factor).min(1.0);
        }
    }

    /// The best documents, in no order.
    fn best(&self, count: usize) -> Vec<(DocId, f32)> {
        let mut all: Vec<(DocId, f32)> = self.touched.iter().map(|doc| (*doc, self.values[*doc as usize])).collect();
        if all.len() > count {
            all.select_nth_unstable_by(count, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.truncate(count);
        }
        all
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
        let terms = terms_of(&field.text);
        for (feature, share) in weighted(field.weight, field.usual, terms.iter().map(String::as_str)) {
            *counts.entry(feature).or_default() += share;
        }
    }
    let mut features: Vec<(u64, f32)> = counts.into_iter().collect();
    features.sort_unstable_by_key(|(feature, _)| *feature);
    features
}

/// What each term of a field counts: less in a long one.
fn weighted<'t>(
    weight: f32,
    usual: f32,
    terms: impl Iterator<Item = &'t str> + Clone,
) -> impl Iterator<Item = (u64, f32)> {
    let length = terms.clone().filter(|term| !term.starts_with(CONCEPT_MARK)).count() as f32;
    let share = weight / (1.0 - B + B * length / usual);
    terms.map(move |term| (hash64(term), share))
}

/// What a text is compared by: the stems of its words and the groups of synonyms that they and its phrases belong to. None of
/// them has a space in it.
pub(crate) fn terms_of(text: &str) -> Vec<String> {
    let words = words(text, crate::MAX_TEXT_BYTES);
    let mut terms = Vec::with_capacity(words.len());
    for word in words.iter().filter(|word| !word.is_stop) {
        terms.push(word.stem.clone());
        terms.extend(concepts_of(&word.stem).iter().map(|concept| concept_term(*concept)));
    }
    terms.extend(phrases_in(&words).into_iter().map(|(_, _, concept)| concept_term(concept)));
    terms
}

/// A field whose terms are known already.
pub(crate) struct Terms<'t> {
    pub(crate) weight: f32,
    pub(crate) usual: f32,
    pub(crate) terms: &'t str,
}

/// How well a document fits a query by words, 0 to 1, as far as can be told without knowing how rare they are: for documents
/// that another index has found. A word that none of them has is unknown and counts little.
pub(crate) fn score_found(query: &str, found: &[Vec<Terms<'_>>]) -> Vec<(f32, Vec<String>)> {
    let query = query_words(query);
    let counts: Vec<HashMap<u64, f32>> = found
        .iter()
        .map(|fields| {
            let mut counts = HashMap::new();
            for field in fields {
                for (feature, share) in weighted(field.weight, field.usual, field.terms.split_whitespace()) {
                    *counts.entry(feature).or_default() += share;
                }
            }
            counts
        })
        .collect();
    let fits = |word: &QueryWord, counts: &HashMap<u64, f32>| {
        let each = word.features.iter().filter_map(|(feature, share)| Some(share * saturated(*counts.get(feature)?)));
        each.fold(0.0_f32, f32::max)
    };
    let mut wanted = 0.0;
    let mut scores = vec![(0.0, Vec::new()); found.len()];
    for word in &query {
        let mut is_known = false;
        for (score, counts) in scores.iter_mut().zip(&counts) {
            let fit = fits(word, counts);
            if fit > 0.0 {
                is_known = true;
                score.0 += fit;
                score.1.push(word.shown.clone());
            }
        }
        wanted += if is_known { 1.0 } else { UNKNOWN_WEIGHT };
    }
    scores.iter_mut().for_each(|(score, _)| *score = (*score / f32::max(wanted, 1.0)).min(1.0));
    scores
}

/// The terms of a query, for an index that compares them as they are; empty if it has no words.
pub(crate) fn query_terms(query: &str) -> Vec<String> {
    query_words(query).into_iter().flat_map(|word| word.terms).collect()
}

fn query_words(query: &str) -> Vec<QueryWord> {
    let words = words(query, crate::MAX_QUERY_BYTES);
    let phrases = phrases_in(&words);
    let mut found: Vec<QueryWord> = Vec::new();
    for (start, end, concept) in &phrases {
        let shown: Vec<&str> = words[*start..=*end].iter().map(|word| word.shown.as_str()).collect();
        found.push(QueryWord::new(shown.join(" "), vec![(concept_term(*concept), CONCEPT_WEIGHT)]));
    }
    // The words of a phrase mean something else by themselves ("boil", "down"): they count only where they stand.
    let in_phrase = |at: usize| phrases.iter().any(|(start, end, _)| (*start..=*end).contains(&at));
    for (at, word) in words.iter().enumerate().filter(|(_, word)| !word.is_stop) {
        if found.len() >= MAX_QUERY_WORDS || found.iter().any(|known| known.terms[0] == word.stem) {
            continue;
        }
        if in_phrase(at) && concepts_of(&word.stem).is_empty() {
            continue;
        }
        let concepts = concepts_of(&word.stem).iter().map(|concept| (concept_term(*concept), CONCEPT_WEIGHT));
        let terms = std::iter::once((word.stem.clone(), 1.0)).chain(concepts).collect();
        found.push(QueryWord::new(word.shown.clone(), terms));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{LexicalHashing, ModelName};
    use proptest::prelude::*;

    fn field(text: &str) -> [Field; 1] {
        [Field { weight: 1.0, usual: 8.0, text: text.to_owned() }]
    }

    fn search(corpus: &Corpus, query: &str) -> Vec<Hit> {
        let blend = Blend { share: 0.25, unrelated: 0.0 };
        corpus.search(query, Some(&LexicalHashing::embed_one(query)), blend, 10)
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
    fn dense_vectors_are_compared_by_angle_with_those_of_their_model_only() {
        let dense = |model: &str, values: &[f32]| Embedding::Dense(Vector::new(ModelName::new(model), values.to_vec()));
        let mut corpus = Corpus::default();
        corpus.add(&field("a1"), Some(dense("m", &[1.0, 0.0])));
        corpus.add(&field("b2"), Some(dense("m", &[0.6, 0.8])));
        corpus.add(&field("c3"), None);
        let all = Blend { share: 1.0, unrelated: 0.0 };
        let hits = corpus.search("zzz", Some(&dense("m", &[0.0, 2.0])), all, 10);
        assert_eq!(hits.len(), 1);
        assert!((hits[0].score - 0.8).abs() < 1e-6 && hits[0].doc == 1);
        let half = Blend { share: 0.5, unrelated: 0.6 };
        let hits = corpus.search("zzz", Some(&dense("m", &[0.0, 2.0])), half, 10);
        assert!((hits[0].score - 0.25).abs() < 1e-6, "half of what is above 0.6");
        assert!(corpus.search("zzz", Some(&dense("other", &[0.0, 2.0])), all, 10).is_empty());
        assert_eq!(corpus.search("c3", Some(&dense("m", &[0.0, -1.0])), half, 10)[0].doc, 2);
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
