//! Text processing that the bundled skills share: tokens, sentences, stop words, vectors, near-duplicates.
//! It never allocates more than a small multiple of its input, never panics, and has no clock and no random:
//! the same text gives the same result everywhere. Called by the skills beside it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod clean;
mod duplicates;
mod fold;
mod sentences;
mod stopwords;
mod terms;
mod tokens;

pub use clean::{clean, is_url, squeeze};
pub use duplicates::clusters;
pub use fold::{Folded, fold, is_wide};
pub use sentences::{ends_sentence, sentences};
pub use stopwords::{StopWords, Weight, weight};
pub use terms::{Vector, Vocabulary, cosine, key};
pub use tokens::{Kind, Token, tokens};

/// Number of Unicode scalar values, which is what every limit in characters means here.
#[must_use]
pub fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Rounds to four decimals, so that outputs read well and do not differ in the last bit.
#[must_use]
pub fn round4(value: f64) -> f64 {
    if value.is_finite() { (value * 10_000.0).round() / 10_000.0 } else { 0.0 }
}

/// How full a sample of `n` is when `scale` is a small one: 0 for none, 0.63 for `scale`, close to 1 for three times `scale`.
#[must_use]
pub fn saturation(n: f64, scale: f64) -> f64 {
    1.0 - (-n.max(0.0) / scale).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_helpers() {
        assert_eq!(chars("naïve 🦀"), 7);
        assert_eq!(round4(0.123_456), 0.1235);
        assert_eq!(round4(f64::NAN), 0.0);
        assert!(saturation(0.0, 8.0) == 0.0 && saturation(24.0, 8.0) > 0.94);
    }
}
