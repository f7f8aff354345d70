//! The JSON Schemas of the files that people write, so that editors can help.

use std::collections::BTreeMap;

use alluvium_model::{EntitySpec, SystemSpec};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::error::ConfigError;
use crate::settings;

/// What a connector's own parts of the metadata look like.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorSchemas {
    /// The schema of a system's `connection`.
    pub connection: Value,
    /// The schema of an entity's `source`.
    pub source: Value,
}

/// The schemas of all known system types.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchemaCatalog {
    /// By the type's name, as it stands in `type`.
    pub types: BTreeMap<String, ConnectorSchemas>,
}

impl SchemaCatalog {
    /// Adds a system type whose parts are these Rust types.
    #[must_use]
    pub fn with<Connection: JsonSchema, Source: JsonSchema>(mut self, kind: &str) -> Self {
        let schemas = ConnectorSchemas {
            connection: schema_of::<Connection>(),
            source: schema_of::<Source>(),
        };
        self.types.insert(kind.to_owned(), schemas);
        self
    }
}

/// The schemas by file name: `alluvium schema` writes them. The same for the same catalog.
pub fn schemas(catalog: &SchemaCatalog) -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("settings.schema.json", settings_file()),
        ("systems.schema.json", systems_file(catalog)),
        ("entities.schema.json", entities_file(catalog)),
    ])
}

/// A schema as the text of its file.
pub fn render_schema(schema: &Value) -> Result<String, ConfigError> {
    serde_json::to_string_pretty(schema)
        .map(|text| text + "\n")
        .map_err(|error| ConfigError::Defect(format!("a schema cannot be written: {error}")))
}

/// The schema of one system, but for its connection.
pub(crate) fn system() -> Value {
    schema_of::<SystemSpec>()
}

/// The schema of one entity, but for its source.
pub(crate) fn entity() -> Value {
    schema_of::<EntitySpec>()
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

fn settings_file() -> Value {
    let mut schema = settings::schema();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), json!("alluvium.toml"));
    }
    schema
}

fn systems_file(catalog: &SchemaCatalog) -> Value {
    let mut defs = Map::new();
    let mut system = nested(system(), "system", &mut defs);
    let types: Vec<&String> = catalog.types.keys().collect();
    let mut cases = Vec::new();
    for (kind, schemas) in &catalog.types {
        let connection =
            nested(schemas.connection.clone(), &format!("{kind}_connection"), &mut defs);
        cases.push(json!({
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": {"connection": connection}}
        }));
    }
    if let Some(kind) = system.pointer_mut("/properties/type").and_then(Value::as_object_mut)
        && !types.is_empty()
    {
        kind.insert("enum".to_owned(), json!(types));
    }
    if let Some(members) = system.as_object_mut().filter(|_| !cases.is_empty()) {
        members.insert("allOf".to_owned(), Value::Array(cases));
    }
    file("systems.json", "systems", "The systems: what is ingested from.", system, defs)
}

fn entities_file(catalog: &SchemaCatalog) -> Value {
    let mut defs = Map::new();
    let mut entity = nested(entity(), "entity", &mut defs);
    let sources: Vec<Value> = catalog
        .types
        .iter()
        .map(|(kind, schemas)| {
            let mut source = nested(schemas.source.clone(), &format!("{kind}_source"), &mut defs);
            if let Some(members) = source.as_object_mut() {
                members.insert("title".to_owned(), json!(format!("of a system of type {kind}")));
            }
            source
        })
        .collect();
    if let Some(source) = entity.pointer_mut("/properties/source").and_then(Value::as_object_mut)
        && !sources.is_empty()
    {
        source.insert("anyOf".to_owned(), Value::Array(sources));
    }
    file("entities.json", "entities", "The entities: what of a system is ingested.", entity, defs)
}

fn file(title: &str, member: &str, about: &str, item: Value, defs: Map<String, Value>) -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": {
            "$schema": {"type": "string", "description": "The schema that editors use."}
        },
        "required": [member],
        "additionalProperties": false
    });
    schema["properties"][member] = json!({"type": "array", "description": about, "items": item});
    if !defs.is_empty() {
        schema["$defs"] = Value::Object(defs);
    }
    schema
}

/// Takes a schema's definitions out under names of their own, so that it can stand within another.
fn nested(mut schema: Value, prefix: &str, defs: &mut Map<String, Value>) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
        let own = members.remove("$defs");
        for (name, mut def) in own
            .as_ref()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, def)| (name.clone(), def.clone()))
        {
            rename(&mut def, prefix);
            defs.insert(format!("{prefix}_{name}"), def);
        }
    }
    rename(&mut schema, prefix);
    schema
}

fn rename(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(reference) if name == "$ref" => {
                        if let Some(rest) = reference.strip_prefix("#/$defs/") {
                            *reference = format!("#/$defs/{prefix}_{rest}");
                        }
                    }
                    _ => rename(member, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, prefix)),
        _ => {}
    }
}
