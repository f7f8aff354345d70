//! What the code for one system type must bring: its settings as types, and a way to connect.

use std::fmt::Debug;
use std::sync::Arc;

use alluvium_model::{Clock, EntitySpec, Source, SourceError, SystemSpec};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::RateLimits;

/// The code for one system type.
///
/// Its settings are types: their docs become the descriptions of the JSON Schema, and their
/// `Debug` must show no secret (wrap each in [`alluvium_model::Secret`]). They refuse unknown
/// fields.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// The shape of a system's `connection`.
    type Connection: DeserializeOwned + JsonSchema + Debug + Send;
    /// The shape of an entity's `source`.
    type EntitySource: DeserializeOwned + JsonSchema + Debug + Send;
    /// The system type, as `systems.json` names it.
    const TYPE: &'static str;

    /// Opens the system. Secrets in `connection` are resolved already. Called at the start of a
    /// run, and again after errors; may be called for several systems at once.
    async fn connect(
        system: &SystemSpec,
        connection: Self::Connection,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError>;
}

/// What a connector is given beside its settings. Cheap to clone; one per process, so that rate
/// limits are shared by all systems that use the same credential.
#[derive(Clone)]
pub struct ConnectContext {
    /// The only source of the time.
    pub clock: Arc<dyn Clock>,
    /// The rate limits, one per credential.
    pub rate_limits: Arc<RateLimits>,
}

impl ConnectContext {
    /// A context with no rate limits in it yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, rate_limits: Arc::default() }
    }
}

/// Reads an entity's `source` as its connector's type. The error names the entity and the field,
/// never a value.
pub fn parse_source<T: DeserializeOwned>(entity: &EntitySpec) -> Result<T, SourceError> {
    parse(&entity.source, || format!("`source` of entity `{}`", entity.id()))
}

/// Reads a JSON value as `T`; `what` names it in the error.
pub(crate) fn parse<T: DeserializeOwned>(
    value: &Value,
    what: impl FnOnce() -> String,
) -> Result<T, SourceError> {
    T::deserialize(value)
        .map_err(|e| SourceError::Misconfigured(format!("{}: {}", what(), without_values(&e))))
}

/// The error's text without the value that was found: it may be a secret in the wrong place.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let Some(rest) =
        text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "))
    else {
        return text;
    };
    let kind = rest.split([' ', ',']).next().unwrap_or("value");
    let expected = rest.rfind(", expected").map_or("", |at| &rest[at..]);
    format!("invalid {kind}{expected}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Settings {
        seconds: u64,
        token: String,
    }

    fn error(value: Value) -> String {
        parse::<Settings>(&value, || "connection".to_owned()).unwrap_err().to_string()
    }

    #[test]
    fn a_secret_in_the_wrong_field_is_not_repeated_in_the_error() {
        let text = error(json!({"seconds": "hunter2, expected", "token": ""}));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("invalid string, expected u64"), "{text}");
        assert!(!error(json!({"seconds": 1, "token": 48151623})).contains("48151623"));
    }

    #[test]
    fn an_unknown_field_is_named_with_the_known_ones() {
        let text = error(json!({"secnods": 1}));
        assert!(text.contains("`secnods`") && text.contains("`seconds`"), "{text}");
    }
}
