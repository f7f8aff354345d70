//! What the caller must do about an error. Every error answers `remedy()`; one function in
//! `runtime` decides.

use std::time::Duration;

/// What mends an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try again, with backoff.
    Retry,
    /// Try again, not before so long.
    RetryAfter(Duration),
    /// Somebody must act; the text says what to do.
    Operator(&'static str),
    /// A defect of ours: stop, and tell.
    Bug,
}

impl Remedy {
    /// Whether trying again may help by itself.
    pub fn is_retry(self) -> bool {
        matches!(self, Remedy::Retry | Remedy::RetryAfter(_))
    }
}

/// An error that the reader of a chain would want to see whole: the error and all its sources,
/// joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
