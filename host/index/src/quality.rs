//! How good a ranking is, for the tests and the benchmark that hold search against labelled queries.
//!
//! It measures and decides nothing. Called by `tests/labelled.rs` and `chimera bench search`.

/// Normalised discounted cumulative gain (Järvelin and Kekäläinen, 2002) of the first `at` places, 0 to 1: `found` are the
/// gains of what was found, in its order; `wanted` are all gains that there were to be found, in any order.
pub fn ndcg(found: &[f64], wanted: &[f64], at: usize) -> f64 {
    let discounted = |gains: &[f64]| -> f64 {
        let each = gains.iter().take(at).enumerate();
        each.map(|(place, gain)| (gain.exp2() - 1.0) / (place as f64 + 2.0).log2()).sum()
    };
    let mut best = wanted.to_vec();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal = discounted(&best);
    if ideal > 0.0 { discounted(found) / ideal } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::ndcg;

    #[test]
    fn the_best_order_is_1_and_a_later_place_is_less() {
        assert!((ndcg(&[2.0, 1.0, 0.0], &[1.0, 2.0], 10) - 1.0).abs() < 1e-9);
        let second = ndcg(&[0.0, 2.0], &[2.0], 10);
        assert!((second - 1.0 / 3_f64.log2()).abs() < 1e-9);
        assert!(
            ndcg(&[0.0; 10], &[2.0], 10) == 0.0 && ndcg(&[0.0, 2.0], &[2.0], 1) == 0.0 && ndcg(&[], &[], 10) == 0.0
        );
    }
}
