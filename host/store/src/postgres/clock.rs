//! The server's clock, as this process reads it.
//!
//! Leases, claims and deadlines are moments that other processes compare with their own present, so the present must be the
//! same for all of them: it is the server's. It is asked for now and then and counted on from by the machine's monotonic
//! clock, so that nobody's wall clock is looked at, wherever it stands and however it jumps. Nothing here decides what is
//! due. Kept by the store.

use super::pool::Pool;
use chimera_core::clock::{Clock, Timestamp};
use sqlx::{PgConnection, query_scalar};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the server is asked.
const EVERY: Duration = Duration::from_secs(5);
/// A move of the server's clock that is told.
const WORTH_TELLING: i64 = 1_000;

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The server's clock; see the module.
#[derive(Debug)]
pub(super) struct ServerClock {
    begun: Instant,
    /// The server's time when this began, in milliseconds.
    at_begin: AtomicI64,
}

/// What the server said, and when it may have said so.
#[derive(Debug, Clone, Copy)]
struct Reading {
    millis: i64,
    asked: Instant,
    told: Instant,
}

impl Reading {
    async fn take(db: &mut PgConnection) -> sqlx::Result<Self> {
        let asked = Instant::now();
        let millis = query_scalar(NOW).fetch_one(db).await?;
        Ok(Self { millis, asked, told: Instant::now() })
    }
}

impl ServerClock {
    /// Asks for the time.
    pub(super) async fn start(db: &mut PgConnection) -> sqlx::Result<Self> {
        Reading::take(db).await.map(Self::at)
    }

    fn at(reading: Reading) -> Self {
        let clock = Self { begun: reading.asked, at_begin: AtomicI64::new(reading.millis) };
        clock.correct(reading);
        clock
    }

    /// Asks again and again, until `stop`.
    pub(super) async fn follow(&self, pool: &Pool, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match read(pool).await {
                Ok(reading) => {
                    let moved = self.correct(reading);
                    if moved.abs() >= WORTH_TELLING {
                        tracing::warn!(milliseconds = moved, "the clock of the database's server has moved");
                    }
                }
                Err(error) => tracing::debug!(%error, "the server cannot be asked for the time"),
            }
        }
    }

    /// Takes a reading over unless what was counted may be right too; by how many milliseconds it was wrong.
    fn correct(&self, reading: Reading) -> i64 {
        let since = |moment: Instant| millis(moment.saturating_duration_since(self.begun));
        // The server looked at its clock at some moment between question and answer.
        let (latest, earliest) = (reading.millis - since(reading.asked), reading.millis - since(reading.told));
        let counted = self.at_begin.load(Ordering::Relaxed);
        // A millisecond on either side is lost to rounding.
        if (earliest - 1..=latest + 1).contains(&counted) {
            return 0;
        }
        let found = earliest + (latest - earliest) / 2;
        self.at_begin.store(found, Ordering::Relaxed);
        found - counted
    }
}

async fn read(pool: &Pool) -> sqlx::Result<Reading> {
    let mut db = pool.acquire().await?;
    pool.within(Reading::take(&mut db)).await
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.at_begin.load(Ordering::Relaxed).saturating_add(millis(self.begun.elapsed())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(begun: Instant, millis: i64, asked: u64, told: u64) -> Reading {
        let after = |span| begun + Duration::from_millis(span);
        Reading { millis, asked: after(asked), told: after(told) }
    }

    #[test]
    fn only_what_cannot_be_right_is_corrected() {
        let begun = Instant::now();
        let clock = ServerClock::at(reading(begun, 1_000_000, 0, 0));
        // Slow answers say nothing against what was counted.
        assert_eq!(clock.correct(reading(begun, 1_005_200, 5_000, 5_400)), 0);
        assert_eq!(clock.correct(reading(begun, 1_010_000, 10_000, 10_000)), 0);
        // An hour ahead, and an hour back.
        assert_eq!(clock.correct(reading(begun, 4_620_000, 20_000, 20_000)), 3_600_000);
        assert_eq!(clock.correct(reading(begun, 1_030_000, 30_000, 30_000)), -3_600_000);
        assert_eq!(clock.at_begin.load(Ordering::Relaxed), 1_000_000);
        // Between question and answer, where it is most likely.
        assert_eq!(clock.correct(reading(begun, 1_041_000, 40_000, 40_200)), 900);
    }

    #[test]
    fn it_goes_on_by_itself() {
        let clock = ServerClock::at(reading(Instant::now(), 1_000, 0, 0));
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.now().since(first) >= Duration::from_millis(20), "{:?} {first:?}", clock.now());
    }
}
