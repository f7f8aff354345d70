//! Leases: who may write, proven by a number that only grows.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use alluvium_model::{EntityId, FencingToken, Layer, SystemName};

/// What a lease is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseName(String);

impl LeaseName {
    /// The poll loop of an entity.
    pub fn poll(entity: &EntityId) -> Self {
        Self(format!("poll/{entity}"))
    }

    /// The one writer of an entity's layer.
    pub fn layer(layer: Layer, entity: &EntityId) -> Self {
        Self(format!("{layer}/{entity}"))
    }

    /// The triggers of a system.
    pub fn triggers(system: &SystemName) -> Self {
        Self(format!("triggers/{system}"))
    }

    /// What is done once for all: delivering audit events, the ledger's retention.
    pub fn house() -> Self {
        Self("house".to_owned())
    }

    /// The name that a database gave back.
    pub(crate) fn read(name: String) -> Self {
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A lease as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// What it is on.
    pub name: String,
    /// Who holds it, or held it last.
    pub holder: String,
    /// The number it was granted with.
    pub token: FencingToken,
    /// When it ends; by the database's clock.
    pub expires_at: Timestamp,
}
