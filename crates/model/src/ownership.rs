//! The right to write one layer of one entity, as its holder knows it.
//!
//! A lease stands in the ledger and ends by the ledger's time. Its holder cannot look there before
//! each write, so it goes by its own monotonic clock, and stops at half of the lease: long before
//! anybody else can have it. What is under way by then is refused by the place it goes to, because
//! whoever took over has written its higher token there first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Clock, FencingToken};

/// The right to write one layer of one entity. Cheap to clone: all clones tell the same.
#[derive(Debug, Clone)]
pub struct Ownership {
    token: FencingToken,
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    clock: Arc<dyn Clock>,
    /// Until when it can be relied upon; `None` once it is given up.
    until: Mutex<Option<Instant>>,
}

impl Ownership {
    /// What a lease with this token gives, up to `until` at first.
    pub fn new(token: FencingToken, clock: Arc<dyn Clock>, until: Instant) -> Self {
        let held = Held { clock, until: Mutex::new(Some(until)) };
        Self { token, held: Arc::new(held) }
    }

    /// The token: of two owners, the later has the higher one.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// Whether it can be relied upon at this moment. Asked before whatever cannot be taken back.
    pub fn holds(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long it can be relied upon if it is not prolonged.
    pub fn remaining(&self) -> Duration {
        let until = *self.held.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.held.clock.instant();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// The lease was prolonged. One that has ended does not begin anew.
    pub fn prolong(&self, until: Instant) {
        let mut held = self.held.until.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.map(|before| before.max(until));
    }

    /// The lease was lost, or given back.
    pub fn end(&self) {
        *self.held.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Hand(Mutex<Instant>);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn instant(&self) -> Instant {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn it_holds_until_its_time_is_over_and_never_after_it_was_given_up() {
        let begin = crate::SystemClock.instant();
        let hand = Arc::new(Hand(Mutex::new(begin)));
        let second = Duration::from_secs(1);
        let clock: Arc<dyn Clock> = hand.clone();
        let owner = Ownership::new(FencingToken(7), clock, begin + second);
        let other = owner.clone();
        assert!(owner.holds());
        *hand.0.lock().unwrap() += second;
        assert!(!owner.holds(), "its time is over");
        owner.prolong(begin + 3 * second);
        assert!(other.holds(), "clones tell the same");
        other.end();
        owner.prolong(begin + 9 * second);
        assert!(!owner.holds(), "what was given up is not taken up by a late answer");
    }
}
