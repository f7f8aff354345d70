//! The only place that asks for the time.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time. Wall time may jump; the monotonic instant never goes back.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Wall time, UTC.
    fn now(&self) -> Timestamp;
    /// Monotonic time, for durations.
    fn instant(&self) -> Instant;
    /// How long it is since `start`.
    fn since(&self, start: Instant) -> Duration {
        self.instant().saturating_duration_since(start)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the home of the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the home of the clock")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until a test moves it.
#[cfg(feature = "testkit")]
#[derive(Debug)]
pub struct ManualClock {
    origin: Instant,
    start: Timestamp,
    elapsed: std::sync::Mutex<Duration>,
}

#[cfg(feature = "testkit")]
impl ManualClock {
    /// A clock that shows `start`.
    #[allow(clippy::disallowed_methods, reason = "an instant has no other origin")]
    pub fn at(start: Timestamp) -> Self {
        Self { origin: Instant::now(), start, elapsed: std::sync::Mutex::default() }
    }

    /// Moves the clock forward.
    #[allow(clippy::unwrap_used, reason = "a poisoned lock ends the test")]
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().unwrap() += by;
    }
}

#[cfg(feature = "testkit")]
impl Clock for ManualClock {
    #[allow(clippy::unwrap_used, reason = "a poisoned lock ends the test")]
    fn now(&self) -> Timestamp {
        self.start + *self.elapsed.lock().unwrap()
    }

    #[allow(clippy::unwrap_used, reason = "a poisoned lock ends the test")]
    fn instant(&self) -> Instant {
        self.origin + *self.elapsed.lock().unwrap()
    }
}
