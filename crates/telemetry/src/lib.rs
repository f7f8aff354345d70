//! Tracing and metrics: names and labels as constants.
//!
//! Lower crates return counts and durations; `runtime` records them here.

mod instruments;
pub mod metrics;
pub mod names;
pub mod tracing;

pub use metrics::{BuildInfo, Metrics, MetricsError};
pub use tracing::{LogFormat, TracingError, TracingSettings, init};
