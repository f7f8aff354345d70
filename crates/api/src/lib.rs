//! Health, metrics and runs over HTTP. The only crate that knows HTTP serving.
//!
//! | | |
//! |---|---|
//! | `GET /livez` | the process answers |
//! | `GET /readyz` | everything is at work; else 503, and why |
//! | `GET /metrics` | for Prometheus |
//! | `GET /v1/status` | systems, entities, layers, lag |
//! | `GET /v1/runs` | runs, the latest first: `?system=&status=&limit=` |
//! | `GET /v1/runs/{id}` | one run and its parts |
//! | `POST /v1/systems/{system}/runs` | starts a run: `?entity=` |
//!
//! Nobody is asked who they are yet. So it is served on loopback unless the settings say otherwise,
//! and what changes something is done for callers on the same machine only, and never for a web
//! page of another site that runs in somebody's browser there.

mod connections;
mod error;
mod guard;
mod probes;
mod runs;
mod serve;

pub use serve::{ApiState, serve};
