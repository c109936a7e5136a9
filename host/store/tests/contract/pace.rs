//! How time goes by for what is tested: by hand where it goes by the moments that it is told, and really where it asks a
//! clock of its own.

use super::fixtures::at;
use async_trait::async_trait;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use std::time::Duration;

/// Makes time go by. Moments are counted from the test's start in units of its own: one is enough to be told apart by hand.
#[async_trait]
pub trait Pace: Send + Sync {
    /// So many units.
    fn span(&self, units: u64) -> Duration;
    /// The moment after so many units, which may be long to come.
    fn at(&self, units: i64) -> Timestamp;
    /// Lets time go on until so many units have gone by; gives the present.
    async fn until(&self, units: i64) -> Timestamp;
    /// Lets time go on as long as it is surely before that moment; gives the present.
    async fn until_before(&self, units: i64) -> Timestamp;
}

/// For what goes by the moments that it is told.
pub struct ByHand;

#[async_trait]
impl Pace for ByHand {
    fn span(&self, units: u64) -> Duration {
        Duration::from_millis(units)
    }

    fn at(&self, units: i64) -> Timestamp {
        at(units)
    }

    async fn until(&self, units: i64) -> Timestamp {
        at(units)
    }

    async fn until_before(&self, units: i64) -> Timestamp {
        at(units - 1)
    }
}

/// For what asks a clock of its own. A unit is 10 ms, so that a slow machine does not matter.
pub struct Really {
    began: Timestamp,
}

impl Really {
    const UNIT: i64 = 10;
    /// What lies between a moment here and the same moment there.
    const MARGIN: Duration = Duration::from_millis(50);

    pub fn start() -> Self {
        Self { began: SystemClock.now() }
    }

    async fn wait(until: Timestamp) -> Timestamp {
        tokio::time::sleep(until.since(SystemClock.now())).await;
        SystemClock.now()
    }
}

#[async_trait]
impl Pace for Really {
    fn span(&self, units: u64) -> Duration {
        Duration::from_millis(units * Self::UNIT.unsigned_abs())
    }

    fn at(&self, units: i64) -> Timestamp {
        Timestamp::from_millis(self.began.as_millis() + units * Self::UNIT)
    }

    async fn until(&self, units: i64) -> Timestamp {
        if units == 0 { SystemClock.now() } else { Self::wait(self.at(units).plus(Self::MARGIN)).await }
    }

    async fn until_before(&self, units: i64) -> Timestamp {
        // Half of what is left: the rest is for whatever comes between.
        let left = self.at(units).since(SystemClock.now());
        Self::wait(SystemClock.now().plus(left / 2)).await
    }
}
