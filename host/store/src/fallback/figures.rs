//! What the operations on the queues took, counted.
//!
//! It decides nothing and forgets nothing while the process runs. Called by [`super`]; read by whoever shows metrics.

use super::QueueRole;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`QueueFigures::buckets`] in microseconds; what took longer is in one more.
pub const LATENCY_BOUNDS_US: [u64; 11] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// What is known of the queues in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueStats {
    /// The one that is used now.
    pub in_use: QueueRole,
    /// How often another one was taken, both directions counted.
    pub switches: u64,
    /// Each of them, the best first.
    pub queues: Vec<QueueFigures>,
}

/// What the operations on one queue took; probes are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueFigures {
    /// Which one.
    pub role: QueueRole,
    /// Operations, failed ones included.
    pub operations: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those that took longer than the terms call good.
    pub slow: u64,
    /// Microseconds of all together.
    pub total_us: u64,
    /// Microseconds of the longest.
    pub longest_us: u64,
    /// How many took at most [`LATENCY_BOUNDS_US`] each (not added up), and longer.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    operations: AtomicU64,
    errors: AtomicU64,
    slow: AtomicU64,
    total_us: AtomicU64,
    longest_us: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
}

impl Figures {
    pub(super) fn count(&self, took: Duration, is_error: bool, is_slow: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
        self.slow.fetch_add(u64::from(is_slow), Ordering::Relaxed);
        self.total_us.fetch_add(micros, Ordering::Relaxed);
        self.longest_us.fetch_max(micros, Ordering::Relaxed);
        self.buckets[LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, role: QueueRole) -> QueueFigures {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        QueueFigures {
            role,
            operations: read(&self.operations),
            errors: read(&self.errors),
            slow: read(&self.slow),
            total_us: read(&self.total_us),
            longest_us: read(&self.longest_us),
            buckets: self.buckets.each_ref().map(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_in_the_bucket_of_its_length() {
        let figures = Figures::default();
        for micros in [0, 250, 251, 1_000_000, 1_000_001] {
            figures.count(Duration::from_micros(micros), micros == 251, micros > 100_000);
        }
        let read = figures.read(QueueRole::Primary);
        assert_eq!((read.operations, read.errors, read.slow, read.longest_us), (5, 1, 2, 1_000_001));
        assert_eq!(read.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }
}
