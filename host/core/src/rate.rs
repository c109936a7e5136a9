//! How often an agent may call within a span of time: the sliding window log.
//!
//! Every allowed call of the last window is remembered by its moment, so there is no window, wherever it begins, with more
//! calls than the limit allows (the algorithm is folklore under this name; counters a fixed window let twice as many
//! through at the border, and a bucket of tokens after a rest). Pure: the present is a parameter. Called by the
//! implementations of [`crate::ports::RateLimits`].

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// So many calls within any window of that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    calls: u32,
    window_ms: u64,
}

impl RateLimit {
    /// The most calls that a limit can allow in one window: each is remembered.
    pub const MAX_CALLS: u32 = 10_000;
    /// The longest window.
    pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 3600);

    /// A limit of `calls` within `window`, which is kept within 1 ms and [`Self::MAX_WINDOW`]; at most [`Self::MAX_CALLS`].
    /// A limit of no calls allows none.
    pub fn new(calls: u32, window: Duration) -> Self {
        let window = window.clamp(Duration::from_millis(1), Self::MAX_WINDOW);
        Self { calls: calls.min(Self::MAX_CALLS), window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Calls within a window.
    pub const fn calls(self) -> u32 {
        self.calls
    }

    /// The window's length, in whole milliseconds.
    pub const fn window(self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}

/// May this call be made?
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateDecision {
    /// Yes; it is counted.
    Allowed,
    /// Not before that time has gone by, and then only if nobody else is faster; it is not counted.
    RetryAfter(Duration),
}

/// The calls of one agent.
#[derive(Debug, Clone, Default)]
pub struct SlidingWindow {
    /// Moments of allowed calls, oldest first; at most [`RateLimit::MAX_CALLS`].
    calls: VecDeque<Timestamp>,
    /// When the newest is forgotten.
    forgotten_at: Option<Timestamp>,
}

impl SlidingWindow {
    /// Decides on a call that is made now, and counts it if it is allowed. A clock that goes back is taken to stand still.
    pub fn decide(&mut self, limit: RateLimit, now: Timestamp) -> RateDecision {
        let now = self.calls.back().map_or(now, |newest| now.max(*newest));
        while self.calls.front().is_some_and(|oldest| now.since(*oldest) >= limit.window()) {
            self.calls.pop_front();
        }
        let allowed = limit.calls() as usize;
        if self.calls.len() < allowed {
            self.calls.push_back(now);
            self.forgotten_at = Some(now.plus(limit.window()));
            return RateDecision::Allowed;
        }
        // The limit may have been higher before: so many have to be forgotten first.
        let blocking = self.calls.get(self.calls.len() - allowed.max(1).min(self.calls.len()));
        let retry = blocking.map_or(limit.window(), |blocking| blocking.plus(limit.window()).since(now));
        RateDecision::RetryAfter(retry)
    }

    /// Does it say nothing any more?
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.forgotten_at.is_none_or(|at| at <= now)
    }
}
