//! A place where somebody is held up until the test lets him go on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A gate for one to pass: a request, say, that is complete and on its way. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<Passage>, Condvar)>,
}

/// How far he is.
#[derive(Debug, Default)]
struct Passage {
    held: Option<String>,
    is_open: bool,
    outcome: Option<u16>,
}

impl Gate {
    /// Waits until somebody is held up here, for so many seconds at most; tells who.
    pub fn until_held(&self, seconds: u64) -> String {
        self.wait("nobody came to the gate", seconds, |passage| passage.held.clone())
    }

    /// Lets him go on, and waits until he has come through, for so many seconds at most; tells what
    /// became of it: a status of HTTP.
    pub fn release(&self, seconds: u64) -> u16 {
        self.alter(|passage| passage.is_open = true);
        self.wait("nobody came through the gate", seconds, |passage| passage.outcome)
    }

    /// Comes to the gate, and is held up until it is open.
    pub fn pass(&self, who: &str) {
        self.alter(|passage| passage.held = Some(who.to_owned()));
        let (_, news) = &*self.shared;
        let passed = news.wait_while(self.lock(), |passage| !passage.is_open);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells what became of going on.
    pub fn passed(&self, outcome: u16) {
        self.alter(|passage| passage.outcome = Some(outcome));
    }

    fn alter(&self, change: impl FnOnce(&mut Passage)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn wait<T>(&self, what: &str, seconds: u64, ask: impl Fn(&Passage) -> Option<T>) -> T {
        let (_, news) = &*self.shared;
        let patience = Duration::from_secs(seconds);
        let waited = news.wait_timeout_while(self.lock(), patience, |now| ask(now).is_none());
        let (passage, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let answer = ask(&passage);
        drop(passage);
        answer.unwrap_or_else(|| panic!("{what} within {seconds} s"))
    }

    fn lock(&self) -> MutexGuard<'_, Passage> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
