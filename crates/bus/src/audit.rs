//! What audit events look like on every bus that others can read.

/// The header that says what they are: whole CloudEvents, in their structured mode.
pub(crate) const CONTENT_TYPE: (&str, &str) = ("content-type", "application/cloudevents+json");
