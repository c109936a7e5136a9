//! The sliding window against a naive account of the same calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use chimera_core::clock::Timestamp;
use chimera_core::rate::{RateDecision, RateLimit, SlidingWindow};
use proptest::prelude::*;
use std::time::Duration;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(millis).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_many_calls_are_allowed_as_a_naive_account_says(
        calls in 0..20_u32,
        window in 1..500_u64,
        pauses in proptest::collection::vec(prop_oneof![4 => 0..10_u64, 1 => 0..600_u64], 0..300),
    ) {
        let limit = RateLimit::new(calls, Duration::from_millis(window));
        let mut sliding = SlidingWindow::default();
        let (mut now, mut allowed) = (1_000, Vec::<u64>::new());
        for pause in pauses {
            now += pause;
            let within = |from: u64| allowed.iter().filter(|call| **call > from.saturating_sub(window)).count();
            match sliding.decide(limit, at(now)) {
                RateDecision::Allowed => {
                    prop_assert!(within(now) < calls as usize);
                    allowed.push(now);
                }
                RateDecision::RetryAfter(pause) => {
                    prop_assert!(within(now) >= calls as usize);
                    let pause = u64::try_from(pause.as_millis()).unwrap();
                    prop_assert!(pause >= 1 && pause <= window);
                    if calls > 0 {
                        prop_assert!(within(now + pause - 1) >= calls as usize, "it could be told a shorter pause");
                        prop_assert_eq!(sliding.clone().decide(limit, at(now + pause)), RateDecision::Allowed);
                    }
                }
            }
        }
        prop_assert!(sliding.is_over(at(now + window)));
    }

    #[test]
    fn no_limit_and_no_clock_makes_it_panic(
        asked in proptest::collection::vec((any::<u32>(), any::<u64>(), any::<i64>()), 0..100),
    ) {
        let mut sliding = SlidingWindow::default();
        for (calls, window, now) in asked {
            let limit = RateLimit::new(calls, Duration::from_millis(window));
            prop_assert!(limit.calls() <= RateLimit::MAX_CALLS && limit.window() <= RateLimit::MAX_WINDOW);
            let _ = sliding.decide(limit, Timestamp::from_millis(now));
        }
    }
}

#[test]
fn a_limit_that_was_lowered_is_kept_to() {
    let mut sliding = SlidingWindow::default();
    let window = Duration::from_millis(100);
    for now in 0..4 {
        assert_eq!(sliding.decide(RateLimit::new(4, window), at(now)), RateDecision::Allowed);
    }
    let lower = RateLimit::new(2, window);
    assert_eq!(sliding.decide(lower, at(10)), RateDecision::RetryAfter(Duration::from_millis(92)), "two must be left");
    assert_eq!(sliding.decide(lower, at(101)), RateDecision::RetryAfter(Duration::from_millis(1)));
    assert_eq!(sliding.decide(lower, at(102)), RateDecision::Allowed);
}
