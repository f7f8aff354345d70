//! Tracing and metrics: names and labels as constants.
