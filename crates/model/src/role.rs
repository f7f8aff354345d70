//! What a process does of the work, where several share it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Layer;

/// A part of the work that a process takes upon itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Triggers, and polling sources onto the bus.
    Connect,
    /// The raw layer.
    Raw,
    /// The bronze layer.
    Bronze,
    /// The silver layer.
    Silver,
    /// The API beside health and metrics.
    Api,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Connect, Role::Raw, Role::Bronze, Role::Silver, Role::Api];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Connect => "connect",
            Role::Raw => "raw",
            Role::Bronze => "bronze",
            Role::Silver => "silver",
            Role::Api => "api",
        }
    }

    /// All of them, as a set.
    pub fn all() -> BTreeSet<Role> {
        Self::ALL.into_iter().collect()
    }
}

impl From<Layer> for Role {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::Raw => Role::Raw,
            Layer::Bronze => Role::Bronze,
            Layer::Silver => Role::Silver,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`; the roles are connect, raw, bronze, silver and api")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text.trim());
        found.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}
