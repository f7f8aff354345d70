//! The connectors by name: typed factories behind an erased registry.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use alluvium_model::{EntitySpec, Source, SourceError, SystemSpec};
use async_trait::async_trait;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::connector::{ConnectContext, Connector, parse, parse_source};

/// The connectors that a process knows, by system type.
#[derive(Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Box<dyn Erased>>,
}

impl Registry {
    /// Adds a connector; of two with one type the later is kept.
    pub fn register<C: Connector>(&mut self) -> &mut Self {
        self.connectors.insert(C::TYPE, Box::new(Typed::<C>(PhantomData)));
        self
    }

    /// The known system types, sorted.
    pub fn types(&self) -> Vec<&'static str> {
        self.connectors.keys().copied().collect()
    }

    /// The JSON Schema of a type's `connection`.
    pub fn connection_schema(&self, kind: &str) -> Result<Value, SourceError> {
        Ok(self.find(kind)?.connection_schema())
    }

    /// The JSON Schema of the `source` of a type's entities.
    pub fn source_schema(&self, kind: &str) -> Result<Value, SourceError> {
        Ok(self.find(kind)?.source_schema())
    }

    /// Reads a system's `connection` without connecting. Secrets may be unresolved.
    pub fn check_connection(&self, system: &SystemSpec) -> Result<(), SourceError> {
        self.find(&system.kind)?.check_connection(system)
    }

    /// Reads the `source` of an entity of a system of type `kind`.
    pub fn check_source(&self, kind: &str, entity: &EntitySpec) -> Result<(), SourceError> {
        self.find(kind)?.check_source(entity)
    }

    /// Opens a system. Secrets in its `connection` must be resolved.
    pub async fn connect(
        &self,
        system: &SystemSpec,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        self.find(&system.kind)?.connect(system, context).await
    }

    fn find(&self, kind: &str) -> Result<&dyn Erased, SourceError> {
        self.connectors.get(kind).map(|c| &**c).ok_or_else(|| {
            let known = self.types().join("`, `");
            SourceError::Misconfigured(format!("unknown system type `{kind}`; known: `{known}`"))
        })
    }
}

#[async_trait]
trait Erased: Send + Sync {
    fn connection_schema(&self) -> Value;
    fn source_schema(&self) -> Value;
    fn check_connection(&self, system: &SystemSpec) -> Result<(), SourceError>;
    fn check_source(&self, entity: &EntitySpec) -> Result<(), SourceError>;
    async fn connect(
        &self,
        system: &SystemSpec,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError>;
}

struct Typed<C>(PhantomData<C>);

impl<C: Connector> Typed<C> {
    fn connection(system: &SystemSpec) -> Result<C::Connection, SourceError> {
        parse(&system.connection, || format!("`connection` of system `{}`", system.name))
    }
}

#[async_trait]
impl<C: Connector> Erased for Typed<C> {
    fn connection_schema(&self) -> Value {
        schema_of::<C::Connection>()
    }

    fn source_schema(&self) -> Value {
        schema_of::<C::EntitySource>()
    }

    fn check_connection(&self, system: &SystemSpec) -> Result<(), SourceError> {
        Self::connection(system).map(drop)
    }

    fn check_source(&self, entity: &EntitySpec) -> Result<(), SourceError> {
        parse_source::<C::EntitySource>(entity).map(drop)
    }

    async fn connect(
        &self,
        system: &SystemSpec,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        C::connect(system, Self::connection(system)?, context).await
    }
}

/// The schema of `T`, self-contained and in draft 2020-12.
fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}
