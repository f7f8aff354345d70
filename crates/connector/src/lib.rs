//! The connector SDK: what the code for one system type is made of.
//!
//! A connector implements [`Connector`], typed by its own settings, and is registered in a
//! [`Registry`], which knows only names and JSON. [`http`] is the one way to speak HTTP: bounded,
//! patient, and silent about secrets. [`JsonPath`] takes records out of an answer byte for byte.
//! The contract suite that every connector passes stands behind the feature `testkit`.

mod connector;
#[cfg(feature = "testkit")]
pub mod contract;
pub mod http;
mod json_path;
mod registry;
mod run_start;
#[cfg(feature = "testkit")]
pub mod server;

pub use connector::{ConnectContext, Connector, parse_source};
pub use json_path::{JsonPath, compact};
pub use registry::Registry;
pub use run_start::{RunStart, carry_run_start, require_snapshot_sequence};
