//! The supervisor: triggers, poll loop, layer loop, retry policy, leases, shutdown.
//!
//! [`Runtime::start`] takes a [`Platform`] of ports, settings and metadata, and gives a
//! [`RuntimeHandle`]. From then on triggers open runs, a run polls the entities of its system onto
//! the bus, and each layer of each entity brings what is on the bus into the lake, on its own.
//! Nothing here names a concrete connector or backend.

mod board;
mod budget;
mod claim;
mod context;
mod crew;
mod error;
mod feed;
mod handle;
mod handover;
mod housekeeping;
mod large;
mod layer;
mod lease;
mod platform;
mod poll;
mod pulse;
mod push;
mod reader;
mod recall;
mod recorder;
mod report;
mod retry;
mod roster;
mod run;
mod scheduler;
mod session;
mod share;
mod standby;
mod status;
mod stops;
mod supervisor;
#[cfg(feature = "testkit")]
pub mod testkit;
mod topic;
mod trigger;
mod untold;
mod upkeep;
mod waiting;
mod workforce;

pub use board::{LayerPhase, LayerState};
pub use claim::Claim;
pub use error::RuntimeError;
pub use handle::{Left, RuntimeHandle};
pub use housekeeping::LogEvents;
pub use platform::{EventSink, Platform, Resolve, RuntimeSettings, Stages};
pub use poll::polled_page;
pub use push::PushRun;
pub use report::{EntityReport, RunReport};
pub use retry::{Cause, Decision, RetryPolicy, decide};
pub use standby::StandbyState;
pub use status::{
    EntityStatus, LayerStatus, Phase, StandbyStatus, Status, SystemStatus, WorkerStatus,
};
pub use supervisor::{Runtime, Triggers};
pub use trigger::{Schedule, ScheduleError};
pub use waiting::ProgressUpdate;
