//! The publish time, as messages carry it on every engine.

/// The header that says when a message was published, in microseconds since 1970 as decimal text.
/// A publisher never says less than what it knows of the message before.
pub(crate) const PUBLISHED: &str = "alluvium-published";
