//! Chooses sentences that are central and do not say the same thing twice (maximal marginal relevance).
//! It changes no score. Called once for each run.

use textkit::cosine;

use crate::Candidate;

/// How much being central counts against being new.
const RELEVANCE: f64 = 0.7;

/// The chosen sentences, at most `most`, in the order in which they stand in the texts.
pub(crate) fn diverse(candidates: &[Candidate], scores: &[f64], most: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    // For each sentence its likeness to the closest chosen one, kept up to date as sentences are chosen.
    let mut closest = vec![0.0_f64; candidates.len()];
    while chosen.len() < most.min(candidates.len()) {
        let worth = |at: usize| RELEVANCE * scores[at] - (1.0 - RELEVANCE) * closest[at];
        let best = (0..candidates.len())
            .filter(|at| !chosen.contains(at))
            .max_by(|a, b| worth(*a).total_cmp(&worth(*b)).then(b.cmp(a)));
        let Some(best) = best else { break };
        chosen.push(best);
        for (at, closest) in closest.iter_mut().enumerate() {
            *closest = closest.max(cosine(&candidates[at].vector, &candidates[best].vector));
        }
    }
    chosen.sort_unstable_by_key(|at| (candidates[*at].source, candidates[*at].place));
    chosen
}
