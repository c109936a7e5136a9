//! What a skill returns when it did its job: the output, how sure it is, and why.
//! It never checks the output against a schema; the host does.
//! Skills build outcomes; `ctx.skills().call(…)` returns those of other skills.

use crate::failure::clip;

/// Most entries of evidence that leave a skill.
const MAX_EVIDENCE: usize = 32;
/// Longest entry of evidence, in bytes.
const MAX_EVIDENCE_BYTES: usize = 1024;

/// The output of a skill with its confidence and evidence.
///
/// The confidence starts at 1: a skill that can be wrong says so with [`Outcome::confidence`]. The judge approves
/// ordinary work by it, so it should be computed from what was seen, not chosen.
///
/// ```
/// use chimera_skill::Outcome;
///
/// let outcome = Outcome::new("done").confidence(0.9).evidence("9 of 10 items were usable");
/// assert_eq!(outcome.output, "done");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Outcome<T> {
    /// What the task asked for.
    pub output: T,
    /// How sure the skill is of its output, 0 to 1; anything else fails the task.
    pub confidence: f64,
    /// Short reasons for people; the first 32 entries, of at most 1 KiB each, leave the skill.
    pub evidence: Vec<String>,
}

impl<T> Outcome<T> {
    /// An outcome with confidence 1 and no evidence.
    pub fn new(output: T) -> Self {
        Self { output, confidence: 1.0, evidence: Vec::new() }
    }

    /// Says how sure the skill is, 0 to 1.
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence;
        self
    }

    /// Adds one short reason.
    pub fn evidence(mut self, reason: impl Into<String>) -> Self {
        self.evidence.push(reason.into());
        self
    }

    /// The same outcome with its output changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome { output: change(self.output), confidence: self.confidence, evidence: self.evidence }
    }
}

/// Evidence as it may leave the skill: the numbers of the contract hold.
pub(crate) fn clipped_evidence(mut evidence: Vec<String>) -> Vec<String> {
    evidence.truncate(MAX_EVIDENCE);
    for entry in &mut evidence {
        clip(entry, MAX_EVIDENCE_BYTES);
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_bounded() {
        let clipped = clipped_evidence(vec!["x".repeat(5000); 40]);
        assert_eq!(clipped.len(), 32);
        assert!(clipped.iter().all(|entry| entry.len() == 1024));
    }

    #[test]
    fn map_keeps_the_rest() {
        let outcome = Outcome::new(2).confidence(0.5).evidence("e").map(|n| n * 2);
        assert_eq!((outcome.output, outcome.confidence), (4, 0.5));
        assert_eq!(outcome.evidence, ["e"]);
    }
}
