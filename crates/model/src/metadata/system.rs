//! A system: a source we ingest from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::SystemName;

/// A system, as it stands in `systems.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// Its name.
    pub name: SystemName,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which connector reads it: `rest`, `sqlite`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// How to reach it. Its shape depends on the type.
    #[serde(default = "empty_object")]
    pub connection: Value,
    /// The zone of its times that have none, by its IANA name. Default `UTC`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// What starts its runs. Without one, it runs by hand only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Whether its triggers are heeded. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What starts a run by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// At the times of a cron expression, in a zone, daylight saving observed.
    Cron {
        /// Five or six fields, or `@hourly` and the like.
        expression: String,
        /// The zone's IANA name. Default: the system's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
        /// What becomes of times that passed while nothing ran here. Default `latest`.
        #[serde(default, skip_serializing_if = "CatchUp::is_default")]
        catch_up: CatchUp,
    },
    /// Again and again, so long after the last run's start.
    Interval {
        /// Seconds, at least 1.
        #[schemars(range(min = 1))]
        seconds: u64,
    },
    /// As messages come: the next run begins within a second of the last one's end. For sources that
    /// wait for messages by themselves.
    Message {},
}

/// What becomes of the times of a schedule that passed while nothing ran here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// The latest is made up for: one run at the start, however many times passed.
    #[default]
    Latest,
    /// None is made up for: the next run comes at its time.
    None,
}

impl CatchUp {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}
