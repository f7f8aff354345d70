//! Names and ids: what a system, an entity, a run and a batch are called.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name that is not fit to stand in a path, a topic and an SQL identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 64 of a-z, 0-9 and _, beginning with a letter")]
pub struct NameError(pub String);

fn check_name(name: &str) -> Result<(), NameError> {
    let mut bytes = name.bytes();
    let fits = name.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if fits { Ok(()) } else { Err(NameError(name.to_owned())) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = "^[a-z][a-z0-9_]{0,63}$"))]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                check_name(&name)?;
                Ok(Self(name))
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// What a system is called: 1 to 64 of `a-z 0-9 _`, beginning with a letter.
    SystemName
);
name_type!(
    /// What an entity is called within its system: 1 to 64 of `a-z 0-9 _`, beginning with a letter.
    EntityName
);

/// An entity of a system, written `system.entity`. It also names the entity's topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityId {
    /// The system it belongs to.
    pub system: SystemName,
    /// Its own name.
    pub entity: EntityName,
}

impl EntityId {
    /// Puts the two names together.
    pub fn new(system: SystemName, entity: EntityName) -> Self {
        Self { system, entity }
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.system, self.entity)
    }
}

impl FromStr for EntityId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (system, entity) = text.split_once('.').ok_or_else(|| NameError(text.to_owned()))?;
        Ok(Self { system: system.parse()?, entity: entity.parse()? })
    }
}

impl TryFrom<String> for EntityId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<EntityId> for String {
    fn from(id: EntityId) -> String {
        id.to_string()
    }
}

/// A layer of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The bytes as received.
    Raw,
    /// Documents, append-only.
    Bronze,
    /// SCD2 rows, typed.
    Silver,
}

impl Layer {
    /// All layers, in the order in which a change meets them.
    pub const ALL: [Layer; 3] = [Layer::Raw, Layer::Bronze, Layer::Silver];

    /// The layer's name in paths, labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Raw => "raw",
            Layer::Bronze => "bronze",
            Layer::Silver => "silver",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One activation of a system by a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One applied span of one layer and entity. Made from what it names, so that the same batch has
/// the same id however often it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub String);

impl BatchId {
    /// The id of the batch that applies `span` of `entity` in `layer`: `layer/entity/epoch/after-to`.
    pub fn of(layer: Layer, entity: &EntityId, span: &crate::Span) -> Self {
        Self(format!("{layer}/{entity}/{}/{}-{}", span.epoch, span.after, span.to))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_in_a_path_a_topic_and_sql() {
        assert!("shop_2".parse::<SystemName>().is_ok());
        for bad in ["", "Shop", "2shop", "a-b", "a.b", "../x", "æ", &"a".repeat(65)] {
            assert!(bad.parse::<SystemName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entity_id_reads_what_it_writes() {
        let id: EntityId = "shop.orders".parse().unwrap();
        assert_eq!(id.to_string(), "shop.orders");
        assert!("orders".parse::<EntityId>().is_err());
    }
}
