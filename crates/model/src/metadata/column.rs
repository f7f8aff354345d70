//! A column of an entity: its name, its type, and where in the document it stands.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A column of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The column's name in bronze and silver. Names that begin with `_` are ours.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// For strings: characters at most; longer values are quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// For decimals: digits in all, 1 to 38. Default 38.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 38))]
    pub precision: Option<u8>,
    /// For decimals: digits after the point. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 38))]
    pub scale: Option<u8>,
    /// For timestamps and dates that come as numbers: what these count since 1970, UTC. Of a
    /// timestamp `s`, `ms` (default), `us` or `ns`; of a date `d`, without which it takes no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<TimeUnit>,
    /// Whether null is allowed. A null in a column that does not allow it is quarantined.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub nullable: bool,
    /// Where the value stands in the row: a JSON Pointer (`/properties/mag`) or a JSONPath that
    /// names one place (`$.properties.mag`). Default: the member called like the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a change of the value does to the history.
    #[serde(default, skip_serializing_if = "History::is_default")]
    pub history: History,
}

impl Column {
    /// A nullable, tracked column of `kind`.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            kind,
            length: None,
            precision: None,
            scale: None,
            unit: None,
            nullable: true,
            path: None,
            history: History::Track,
        }
    }

    /// What numbers count that are its times: what it says, else milliseconds; of a date days.
    pub fn counts(&self) -> TimeUnit {
        match self.kind {
            ColumnType::Date => TimeUnit::D,
            _ => self.unit.unwrap_or_default(),
        }
    }
}

/// The type of a column as declared. Silver stores integers as `long`, floats as `double` and
/// decimals at precision 38; the declared width is checked on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false; also 0 and 1.
    Boolean,
    /// An integer of 8 bits.
    Byte,
    /// An integer of 16 bits.
    Short,
    /// An integer of 32 bits.
    Integer,
    /// An integer of 64 bits.
    Long,
    /// A floating-point number of 32 bits.
    Float,
    /// A floating-point number of 64 bits.
    Double,
    /// An exact number with `precision` and `scale`.
    Decimal,
    /// Text.
    String,
    /// A day: `2026-11-21`, or a number of days since 1970-01-01 where `unit` is `d`.
    Date,
    /// An instant: RFC 3339 text, text without zone (the system's zone is meant), or a number of
    /// `unit` since 1970.
    Timestamp,
    /// Bytes, base64 in JSON.
    Binary,
    /// Any JSON value, kept as text; objects compare without regard to the order of their members.
    Json,
}

/// What a number counts that tells a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Days, of dates only.
    D,
    /// Seconds.
    S,
    /// Milliseconds. The default.
    #[default]
    Ms,
    /// Microseconds, as Debezium sends PostgreSQL's `timestamp`.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// The word that stands in `unit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::D => "d",
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Ns => "ns",
        }
    }

    /// How many of them a second has; `None` if one is longer.
    pub(crate) fn per_second(self) -> Option<i64> {
        match self {
            Self::D => None,
            Self::S => Some(1),
            Self::Ms => Some(1_000),
            Self::Us => Some(1_000_000),
            Self::Ns => Some(1_000_000_000),
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::D => "days",
            Self::S => "seconds",
            Self::Ms => "milliseconds",
            Self::Us => "microseconds",
            Self::Ns => "nanoseconds",
        })
    }
}

/// What a change of a column's value does to the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// It opens a new version.
    #[default]
    Track,
    /// It is updated in place on the current version.
    Latest,
    /// The column is not stored in silver.
    Ignore,
}

impl History {
    fn is_default(&self) -> bool {
        *self == Self::Track
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}
