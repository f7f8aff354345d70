//! Workers: the processes that share the work, as they tell each other through the ledger.

use std::collections::BTreeSet;

use alluvium_model::{EntityId, Position, Role};
use serde::{Deserialize, Serialize};

use crate::LeaseName;

/// A process that shares the work, as it tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// What it is called; another one after a restart.
    pub id: String,
    /// What the place is called that it works in, its data folder: the same after a restart.
    #[serde(default)]
    pub node: String,
    /// What it does of the work.
    pub roles: BTreeSet<Role>,
    /// Whether it stays until it is stopped. A command that does one thing and ends takes upon
    /// itself only what nobody does who stays.
    pub stays: bool,
    /// Leases that nobody else is to have while it is alive.
    pub claims: BTreeSet<LeaseName>,
    /// The revision of the metadata that it works with.
    pub revision: u64,
    /// The leases that it holds of what cannot be gone on with at once elsewhere: silver, which
    /// needs its key index.
    #[serde(default)]
    pub keeps: BTreeSet<LeaseName>,
    /// Those of which others hold the lease, and that it could go on with at once.
    #[serde(default)]
    pub ready: BTreeSet<LeaseName>,
    /// Leases that it is not to have for a while: it could not do the work.
    #[serde(default)]
    pub unfit: BTreeSet<LeaseName>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_an_older_release_is_understood() {
        let told = r#"{"id":"a","roles":["raw"],"stays":true,"claims":[],"revision":3}"#;
        let read: Worker = serde_json::from_str(told).unwrap();
        assert_eq!((read.id.as_str(), read.revision, read.node.as_str()), ("a", 3, ""));
        assert!(read.keeps.is_empty() && read.ready.is_empty() && read.unfit.is_empty());
    }
}
