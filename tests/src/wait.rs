//! Waiting for what another process does: it sends no notification, so it is asked again and again,
//! up to a deadline.

use std::time::{Duration, Instant};

/// Asks until there is an answer; panics with `what` after `seconds`.
pub fn until<T>(what: &str, seconds: u64, ask: impl FnMut() -> Option<T>) -> T {
    until_every(Duration::from_millis(20), what, seconds, ask)
}

/// The same for who is not to be kept from work by being asked: so long is waited between.
pub fn until_every<T>(
    pause: Duration,
    what: &str,
    seconds: u64,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {seconds} s");
        std::thread::sleep(pause);
    }
}

/// Does something, and tells how long it took.
pub fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}
