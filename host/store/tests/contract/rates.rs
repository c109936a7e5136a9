//! Rate limits: so many calls within any window, and a pause that is enough.

use super::pace::Pace;
use chimera_core::ids::*;
use chimera_core::ports::RateLimits;
use chimera_core::rate::{RateDecision, RateLimit};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;

fn agent() -> AgentId {
    AgentId::new(&SystemIds)
}

/// The pause that it tells.
fn pause(decision: RateDecision) -> Duration {
    match decision {
        RateDecision::RetryAfter(pause) => pause,
        RateDecision::Allowed => panic!("it was allowed"),
    }
}

pub async fn so_many_calls_are_allowed_within_a_window(rates: Arc<dyn RateLimits>, pace: &dyn Pace) {
    let agent = agent();
    let limit = RateLimit::new(3, pace.span(100));
    for _ in 0..3 {
        assert_eq!(rates.decide(agent, limit, pace.until(0).await).await.unwrap(), RateDecision::Allowed);
    }
    let told = pause(rates.decide(agent, limit, pace.until(0).await).await.unwrap());
    assert!(told > Duration::ZERO && told <= pace.span(100), "{told:?}");
    let told = pause(rates.decide(agent, limit, pace.until_before(100).await).await.unwrap());
    assert!(told > Duration::ZERO && told < pace.span(100), "{told:?}");
    for _ in 0..3 {
        assert_eq!(rates.decide(agent, limit, pace.until(100).await).await.unwrap(), RateDecision::Allowed);
    }
    let _ = pause(rates.decide(agent, limit, pace.until(100).await).await.unwrap());
}

pub async fn calls_are_forgotten_one_after_the_other(rates: Arc<dyn RateLimits>, pace: &dyn Pace) {
    let agent = agent();
    let limit = RateLimit::new(2, pace.span(100));
    assert_eq!(rates.decide(agent, limit, pace.until(0).await).await.unwrap(), RateDecision::Allowed);
    assert_eq!(rates.decide(agent, limit, pace.until(60).await).await.unwrap(), RateDecision::Allowed);
    let _ = pause(rates.decide(agent, limit, pace.until(60).await).await.unwrap());
    assert_eq!(rates.decide(agent, limit, pace.until(110).await).await.unwrap(), RateDecision::Allowed);
    let told = pause(rates.decide(agent, limit, pace.until(110).await).await.unwrap());
    assert!(told <= pace.span(55), "the second call is forgotten at 160: {told:?}");
}

pub async fn agents_have_windows_of_their_own(rates: Arc<dyn RateLimits>, pace: &dyn Pace) {
    let limit = RateLimit::new(1, pace.span(1_000));
    for agent in [agent(), agent()] {
        assert_eq!(rates.decide(agent, limit, pace.until(0).await).await.unwrap(), RateDecision::Allowed);
        let _ = pause(rates.decide(agent, limit, pace.until(0).await).await.unwrap());
    }
}

pub async fn a_limit_of_no_calls_allows_none(rates: Arc<dyn RateLimits>, pace: &dyn Pace) {
    let agent = agent();
    let none = RateLimit::new(0, pace.span(100));
    assert_eq!(pause(rates.decide(agent, none, pace.until(0).await).await.unwrap()), pace.span(100));
    let one = RateLimit::new(1, pace.span(100));
    assert_eq!(rates.decide(agent, one, pace.until(0).await).await.unwrap(), RateDecision::Allowed);
    assert!(pause(rates.decide(agent, none, pace.until(0).await).await.unwrap()) <= pace.span(100));
}

pub async fn of_many_at_once_only_so_many_are_allowed(rates: Arc<dyn RateLimits>, pace: &dyn Pace) {
    let agent = agent();
    let limit = RateLimit::new(10, pace.span(100_000));
    let now = pace.until(0).await;
    let callers = (0..100).map(|_| {
        let rates = Arc::clone(&rates);
        tokio::spawn(async move { rates.decide(agent, limit, now).await.unwrap() })
    });
    let decisions = join_all(callers).await;
    let allowed = decisions.into_iter().filter(|decision| matches!(decision, Ok(RateDecision::Allowed))).count();
    assert_eq!(allowed, 10);
}
