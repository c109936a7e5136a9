//! Time as a parameter.
//!
//! A [`Timestamp`] is milliseconds since the Unix epoch, UTC; a [`Clock`] is handed to whatever needs the present.
//! Nothing here sleeps and nothing in this crate reads the system's clock except [`SystemClock`]. Called from everywhere.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 text outside the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest moment that RFC 3339 can write (9999-12-31T23:59:59.999Z).
    pub const MAX: Self = Self(253_402_300_799_999);
    /// The earliest moment used here, the Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch; clamped to what RFC 3339 can write.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, Self::MAX.0))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and a span later, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The span from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 text.
    ///
    /// # Errors
    /// A sentence that names the text when it is not RFC 3339.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| format!("`{text}` is not a time: expected RFC 3339 such as 2026-01-01T00:00:00Z"))?;
        Ok(Self::from_millis(i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
    }
}

/// As RFC 3339, section 5.6, with as many digits of a second's fraction as are not zero. Written many times a task, so without
/// any allocation.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.div_euclid(1000), self.0.rem_euclid(1000));
        let at = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| fmt::Error)?;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0, 4, i64::from(at.year())),
            (5, 2, i64::from(u8::from(at.month()))),
            (8, 2, i64::from(at.day())),
            (11, 2, i64::from(at.hour())),
            (14, 2, i64::from(at.minute())),
            (17, 2, i64::from(at.second())),
            (20, 3, millis),
        ];
        for (first, digits, mut value) in parts {
            for place in text[first..first + digits].iter_mut().rev() {
                // A remainder of ten is a digit.
                *place = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
        // Without what says nothing: the zeros of the fraction, and its point if all are.
        let mut end = 23;
        while millis > 0 && text[end - 1] == b'0' {
            end -= 1;
        }
        end = if millis == 0 { 19 } else { end };
        text[end] = b'Z';
        f.write_str(std::str::from_utf8(&text[..=end]).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// What tells the present.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(0))
    }
}

/// A clock that moves only when it is told to: time-travel tests need no sleep.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_millis()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
