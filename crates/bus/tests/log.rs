//! Everything that is logged, at whatever level: by whatever thread, or on a test's own.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::dispatcher::DefaultGuard;
use tracing::field::{Field, Visit};
use tracing::subscriber::{set_default, set_global_default};
use tracing::{Event, Metadata, Subscriber, span};

/// The lines that were logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// All that is logged by any thread from the first call on.
    pub(crate) fn of_all() -> Self {
        static ALL: OnceLock<Lines> = OnceLock::new();
        let listen = || {
            let lines = Self::default();
            set_global_default(Everything(lines.clone())).unwrap();
            lines
        };
        ALL.get_or_init(listen).clone()
    }

    /// What is logged on this thread while the guard lives. For tests whose runtime has no other
    /// thread.
    pub(crate) fn of_thread() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = set_default(Everything(lines.clone()));
        (lines, guard)
    }

    /// How many lines hold all of these.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// The text of all lines until now.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// Takes up all.
struct Everything(Lines);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
