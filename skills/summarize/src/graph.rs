//! How central a sentence is: PageRank over the likeness of sentences (TextRank).
//! It chooses nothing. Quadratic in the shortlist, which is bounded, so the whole stays linear in the input.

use textkit::{Vocabulary, cosine};

use crate::Candidate;

/// Most sentences that are compared with each other.
const SHORTLIST: usize = 400;
const DAMPING: f64 = 0.85;
const ROUNDS: usize = 50;
/// Likeness below this is chance.
const LEAST_LIKENESS: f64 = 0.05;

/// The sentences that are worth comparing: those closest to the centroid of all, those about the focus first.
pub(crate) fn shortlist(candidates: Vec<Candidate>, vocabulary: &Vocabulary, focus: &[u32]) -> Vec<Candidate> {
    if candidates.len() <= SHORTLIST {
        return candidates;
    }
    let mut centroid = vec![0.0; vocabulary.len()];
    for candidate in &candidates {
        for (term, weight) in candidate.vector.iter() {
            if let Some(sum) = centroid.get_mut(term as usize) {
                *sum += weight;
            }
        }
    }
    let mut ranked: Vec<(f64, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let near: f64 = candidate
                .vector
                .iter()
                .map(|(term, weight)| weight * centroid.get(term as usize).unwrap_or(&0.0))
                .sum();
            (near * (1.0 + (candidate.copies as f64).ln()) * (1.0 + about(candidate, focus)), at)
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut keep = vec![false; candidates.len()];
    for (_, at) in ranked.into_iter().take(SHORTLIST) {
        keep[at] = true;
    }
    candidates.into_iter().zip(keep).filter_map(|(candidate, keep)| keep.then_some(candidate)).collect()
}

/// For each sentence how central it is, 0 to 1; the most central has 1.
pub(crate) fn centrality(candidates: &[Candidate], focus: &[u32]) -> Vec<f64> {
    let edges = likeness(candidates);
    let ranks = page_rank(&edges, candidates, focus);
    let scores: Vec<f64> = candidates
        .iter()
        .zip(ranks)
        .map(|(candidate, rank)| {
            // The first sentence of a text often says what it is about.
            let lead = if candidate.place == 0 { 1.1 } else { 1.0 };
            rank * lead * readable(candidate) * (1.0 + 1.5 * about(candidate, focus))
        })
        .collect();
    let most = scores.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    scores.into_iter().map(|score| score / most).collect()
}

/// Which part of the focus a sentence is about, 0 to 1; half of the words is all that can be asked of one sentence.
fn about(candidate: &Candidate, focus: &[u32]) -> f64 {
    if focus.is_empty() {
        return 0.0;
    }
    let hits = focus.iter().filter(|term| candidate.terms.contains(term)).count() as f64;
    (hits / focus.len().min(4) as f64).min(1.0)
}

/// Sentences of very few or very many words read badly out of their place, and so do questions.
fn readable(candidate: &Candidate) -> f64 {
    let words = candidate.text.split_whitespace().count() as f64;
    let length = if words < 6.0 {
        words / 6.0
    } else if words > 40.0 {
        40.0 / words
    } else {
        1.0
    };
    let question = if candidate.text.ends_with(['?', '？', '؟']) { 0.7 } else { 1.0 };
    length * question
}

fn likeness(candidates: &[Candidate]) -> Vec<Vec<(usize, f64)>> {
    let mut edges = vec![Vec::new(); candidates.len()];
    for (a, first) in candidates.iter().enumerate() {
        for (b, second) in candidates.iter().enumerate().skip(a + 1) {
            let alike = cosine(&first.vector, &second.vector);
            if alike >= LEAST_LIKENESS {
                edges[a].push((b, alike));
                edges[b].push((a, alike));
            }
        }
    }
    edges
}

/// Weighted PageRank; a sentence that many people repeat, or that is about the focus, is a more likely start.
fn page_rank(edges: &[Vec<(usize, f64)>], candidates: &[Candidate], focus: &[u32]) -> Vec<f64> {
    let start = |candidate: &Candidate| (1.0 + (candidate.copies as f64).ln()) * (1.0 + 4.0 * about(candidate, focus));
    let starts: Vec<f64> = candidates.iter().map(start).collect();
    let total: f64 = starts.iter().sum();
    let starts: Vec<f64> = starts.into_iter().map(|start| start / total).collect();
    let strength: Vec<f64> = edges.iter().map(|edges| edges.iter().map(|(_, weight)| weight).sum()).collect();
    let mut ranks = starts.clone();
    for _ in 0..ROUNDS {
        let lost: f64 =
            ranks.iter().zip(&strength).filter(|(_, strength)| **strength == 0.0).map(|(rank, _)| rank).sum();
        let next: Vec<f64> = edges
            .iter()
            .enumerate()
            .map(|(at, edges)| {
                let gained: f64 = edges.iter().map(|(from, weight)| ranks[*from] * weight / strength[*from]).sum();
                (1.0 - DAMPING) * starts[at] + DAMPING * (gained + lost * starts[at])
            })
            .collect();
        let moved: f64 = next.iter().zip(&ranks).map(|(new, old)| (new - old).abs()).sum();
        ranks = next;
        if moved < 1e-9 {
            break;
        }
    }
    ranks
}
