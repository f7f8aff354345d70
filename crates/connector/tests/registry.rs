//! The registry: typed factories behind names.

use std::sync::Arc;

use alluvium_connector::{ConnectContext, Connector, Registry};
use alluvium_model::{
    Cursor, Discovery, EntitySpec, Page, Secret, Source, SourceError, SystemClock, SystemSpec,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

struct Toy;

/// How to reach the toy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToyConnection {
    /// Opens the toy.
    token: Secret,
}

/// Which part of the toy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read")]
struct ToyEntity {
    /// Its name.
    part: String,
}

struct ToySource;

#[async_trait]
impl Connector for Toy {
    type Connection = ToyConnection;
    type EntitySource = ToyEntity;
    const TYPE: &'static str = "toy";

    async fn connect(
        _: &SystemSpec,
        connection: ToyConnection,
        _: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        match connection.token.expose() {
            "open" => Ok(Box::new(ToySource)),
            _ => Err(SourceError::Refused("wrong token".into())),
        }
    }
}

#[async_trait]
impl Source for ToySource {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        Ok(Discovery { entities: declared.to_vec(), failed: Vec::new() })
    }
    async fn poll(&mut self, _: &EntitySpec, _: Option<&Cursor>) -> Result<Page, SourceError> {
        Ok(Page { records: Vec::new(), next: None, more: false })
    }
    async fn acknowledge(&mut self, _: &EntitySpec, _: &Cursor) -> Result<(), SourceError> {
        Ok(())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register::<Toy>();
    registry
}

fn system(kind: &str, token: &str) -> SystemSpec {
    let spec = json!({"name": "s", "type": kind, "connection": {"token": token}});
    serde_json::from_value(spec).unwrap()
}

fn context() -> ConnectContext {
    ConnectContext::new(Arc::new(SystemClock))
}

#[tokio::test]
async fn a_connector_is_found_by_its_type_and_given_its_own_settings() {
    let registry = registry();
    assert_eq!(registry.types(), ["toy"]);
    assert!(registry.connect(&system("toy", "open"), context()).await.is_ok());
    let refused = registry.connect(&system("toy", "shut"), context()).await.err().unwrap();
    assert!(matches!(refused, SourceError::Refused(_)));
}

#[test]
fn an_unknown_type_lists_the_known_ones() {
    let error = registry().check_connection(&system("tyo", "open")).unwrap_err().to_string();
    assert!(error.contains("`tyo`") && error.contains("`toy`"), "{error}");
}

#[test]
fn docs_become_the_descriptions_of_the_schema() {
    let schema = registry().connection_schema("toy").unwrap();
    assert_eq!(schema["description"], "How to reach the toy.");
    assert_eq!(schema["properties"]["token"]["description"], "Opens the toy.");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(registry().source_schema("toy").unwrap()["required"], json!(["part"]));
}
