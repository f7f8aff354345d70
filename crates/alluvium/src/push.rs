//! Systems of the type `push`: their changes are published by hand or by other programs, never
//! polled.

use alluvium_connector::{ConnectContext, Connector};
use alluvium_model::{Cursor, Discovery, EntitySpec, Page, Source, SourceError, SystemSpec};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// The connector of what is pushed.
pub(crate) struct Push;

/// There is nothing to connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushConnection {}

/// There is nothing to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushSource {}

#[async_trait]
impl Connector for Push {
    type Connection = PushConnection;
    type EntitySource = PushSource;
    const TYPE: &'static str = "push";

    async fn connect(
        _system: &SystemSpec,
        _connection: PushConnection,
        _context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Nothing))
    }
}

/// A source that never has anything.
struct Nothing;

#[async_trait]
impl Source for Nothing {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        Ok(Discovery { entities: declared.to_vec(), failed: Vec::new() })
    }

    async fn poll(
        &mut self,
        _entity: &EntitySpec,
        _cursor: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        Ok(Page { records: Vec::new(), next: None, more: false })
    }

    async fn acknowledge(
        &mut self,
        _entity: &EntitySpec,
        _cursor: &Cursor,
    ) -> Result<(), SourceError> {
        Ok(())
    }
}
