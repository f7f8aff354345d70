//! The one retry policy: what happens after a failure, by its remedy.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use alluvium_model::Remedy;
use tokio_util::sync::CancellationToken;

/// A source that asks to be left alone for longer is not waited for; the run fails instead.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(15 * 60);

/// How failures that may mend themselves are retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait; each further one doubles.
    pub initial: Duration,
    /// No wait is longer, but for what a source asks.
    pub max: Duration,
    /// So many tries in all.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(60), attempts: 5 }
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again after so long.
    Wait(Duration),
    /// Do not try again.
    Fail(Cause),
}

/// Why there is no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// So many tries were made.
    Exhausted(u32),
    /// The source asks to wait too long.
    TooLong(Duration),
    /// Somebody must act; the text says what to do.
    Operator(&'static str),
    /// A defect of ours.
    Bug,
}

impl Cause {
    /// What to add to the error's own text, for people.
    pub fn advice(&self) -> String {
        match self {
            Cause::Exhausted(1) => "not tried again".to_owned(),
            Cause::Exhausted(tries) => format!("tried {tries} times"),
            Cause::TooLong(wait) => format!("{} s are too long to wait in a run", wait.as_secs()),
            Cause::Operator(advice) => (*advice).to_owned(),
            Cause::Bug => "this is a defect of Alluvium; please report it".to_owned(),
        }
    }
}

/// Decides what to do after the `attempt`-th failure in a row, from 1. `jitter`, from 0 to 1, keeps
/// those who failed together from coming back together: a wait is its half plus a share of the
/// other half. What a source asks for is waited for in full.
pub fn decide(policy: &RetryPolicy, remedy: Remedy, attempt: u32, jitter: f64) -> Decision {
    let asked = match remedy {
        Remedy::Operator(advice) => return Decision::Fail(Cause::Operator(advice)),
        Remedy::Bug => return Decision::Fail(Cause::Bug),
        Remedy::RetryAfter(wait) if wait > LONGEST_ASKED_WAIT => {
            return Decision::Fail(Cause::TooLong(wait));
        }
        Remedy::RetryAfter(wait) => wait,
        Remedy::Retry => Duration::ZERO,
    };
    if attempt >= policy.attempts {
        return Decision::Fail(Cause::Exhausted(attempt));
    }
    Decision::Wait(asked.max(backoff(policy, attempt, jitter)))
}

fn backoff(policy: &RetryPolicy, attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = policy.initial.saturating_mul(1 << doublings).min(policy.max);
    whole / 2 + (whole / 2).mul_f64(jitter.clamp(0.0, 1.0))
}

/// Failures in a row of one undertaking.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    failed: u32,
}

impl Attempts {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self { policy: policy.clone(), failed: 0 }
    }

    /// As often as it takes.
    pub(crate) fn without_end(policy: &RetryPolicy) -> Self {
        Self { policy: RetryPolicy { attempts: u32::MAX, ..policy.clone() }, failed: 0 }
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }

    /// What to do after a further failure.
    pub(crate) fn decide(&mut self, remedy: Remedy) -> Decision {
        self.failed = self.failed.saturating_add(1);
        decide(&self.policy, remedy, self.failed, chance())
    }

    /// Waits before the next try, or tells why there is none. Ends early where `stop` is cancelled.
    pub(crate) async fn pause(
        &mut self,
        remedy: Remedy,
        stop: &CancellationToken,
    ) -> Result<Duration, Cause> {
        match self.decide(remedy) {
            Decision::Fail(cause) => Err(cause),
            Decision::Wait(wait) => {
                // That the stop came first is seen by whoever tries again.
                let _ended = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                Ok(wait)
            }
        }
    }
}

/// A number from 0 to 1. It spreads waits and decides nothing else.
pub(crate) fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(10), attempts: 6 }
    }

    fn seconds(remedy: Remedy, attempt: u32, jitter: f64) -> f64 {
        match decide(&policy(), remedy, attempt, jitter) {
            Decision::Wait(wait) => wait.as_secs_f64(),
            Decision::Fail(cause) => panic!("{cause:?}"),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_takes_at_most_half() {
        let full: Vec<f64> = (1..=5).map(|n| seconds(Remedy::Retry, n, 1.0)).collect();
        assert_eq!(full, [1.0, 2.0, 4.0, 8.0, 10.0]);
        let half: Vec<f64> = (1..=5).map(|n| seconds(Remedy::Retry, n, 0.0)).collect();
        assert_eq!(half, [0.5, 1.0, 2.0, 4.0, 5.0]);
    }

    #[test]
    fn what_a_source_asks_for_is_waited_for_unless_it_is_too_long() {
        let minute = Remedy::RetryAfter(Duration::from_secs(60));
        assert_eq!(seconds(minute, 1, 0.0), 60.0);
        let day = Duration::from_secs(86_400);
        let decision = decide(&policy(), Remedy::RetryAfter(day), 1, 0.0);
        assert_eq!(decision, Decision::Fail(Cause::TooLong(day)));
    }

    #[test]
    fn tries_are_bounded_and_what_waiting_does_not_mend_is_not_tried_again() {
        let after = |remedy, attempt| decide(&policy(), remedy, attempt, 0.5);
        assert_eq!(after(Remedy::Retry, 6), Decision::Fail(Cause::Exhausted(6)));
        assert_eq!(after(Remedy::Bug, 1), Decision::Fail(Cause::Bug));
        let operator = after(Remedy::Operator("do it"), 1);
        assert_eq!(operator, Decision::Fail(Cause::Operator("do it")));
    }

    #[test]
    fn backoff_never_overflows() {
        assert!(backoff(&policy(), u32::MAX, 1.0) <= Duration::from_secs(10));
    }

    #[test]
    fn chance_lies_between_nothing_and_all() {
        assert!((0..1000).map(|_| chance()).all(|c| (0.0..1.0).contains(&c)));
    }
}
