//! Workers: the processes that share the work, as they tell each other through the ledger.

use std::collections::BTreeSet;

use alluvium_model::{EntityId, Position, Role};
use serde::{Deserialize, Serialize};

use crate::LeaseName;

/// A process that shares the work, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// What it is called; another one after a restart.
    pub id: String,
    /// What it does of the work.
    pub roles: BTreeSet<Role>,
    /// Whether it stays until it is stopped. A command that does one thing and ends takes upon
    /// itself only what nobody does who stays.
    pub stays: bool,
    /// Leases that nobody else is to have while it is alive.
    pub claims: BTreeSet<LeaseName>,
    /// The revision of the metadata that it works with.
    pub revision: u64,
}

/// What the ledger answers a worker that tells it is alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// All that are alive, by id, the one that asks among them.
    pub workers: Vec<Worker>,
    /// Of the leases that were to be prolonged, those that were not: they have run out, or are
    /// another's.
    pub lost: Vec<LeaseName>,
    /// Up to where somebody waits for the layers of entities.
    pub wanted: Vec<(EntityId, Position)>,
    /// The revision of the metadata that hold.
    pub revision: u64,
}
