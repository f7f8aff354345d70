//! One pass over both files, collecting all that is wrong.

use std::collections::{BTreeMap, HashSet};

use alluvium_model::{EntitySpec, SystemSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Metadata, Named, Part, PartCheck, entities, systems};
use crate::conform::{Problem, Shape};
use crate::document::Document;
use crate::error::{ConfigError, Findings};
use crate::mask::{Openness, in_the_open, masked};
use crate::nearest::suggestion;
use crate::schemas::{self, SchemaCatalog};
use crate::secrets::malformed;

/// Checks both texts. A text that could not be read has been told already.
pub(super) fn check(
    systems: Option<Named<'_>>,
    entities: Option<Named<'_>>,
    catalog: &SchemaCatalog,
    own: &PartCheck<'_>,
    mut findings: Findings,
) -> Result<Metadata, ConfigError> {
    // A text that may hold secrets is not quoted when it is broken: nobody could say what to mask.
    let mut parse =
        |named: Option<Named<'_>>| Document::json(named?.name, named?.text, false, &mut findings);
    let (systems, entities) = (parse(systems), parse(entities));
    let types = systems.as_ref().map(|document| types_of(&document.value));
    let shapes = shapes(catalog)?;
    let mut check = Check { shapes: &shapes, own, findings: &mut findings };
    let mut metadata = Metadata::default();
    if let Some(mut document) = systems {
        check.mask_connections(&mut document);
        metadata.systems = check.systems(&document)?;
    }
    if let Some(mut document) = entities {
        check.mask_sources(&mut document, types.as_ref());
        metadata.entities = check.entities(&document, types.as_ref())?;
    }
    findings.into_result()?;
    Ok(metadata)
}

/// The systems' types by the systems' names, also of systems that are wrong otherwise.
fn types_of(value: &Value) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    for (_, system) in list(value, "systems") {
        if let Some(name) = text(system, "name") {
            let kind = text(system, "type").unwrap_or_default();
            types.entry(name.to_owned()).or_insert_with(|| kind.to_owned());
        }
    }
    types
}

/// A connector's own parts.
struct Parts<'c> {
    connection: PartShape<'c>,
    source: PartShape<'c>,
}

struct PartShape<'c> {
    shape: Shape<'c>,
    openness: Openness,
}

impl<'c> PartShape<'c> {
    fn of(schema: &'c Value) -> Result<Self, ConfigError> {
        Ok(Self { shape: Shape::of(schema)?, openness: Openness::of(schema) })
    }
}

fn shapes(catalog: &SchemaCatalog) -> Result<BTreeMap<&str, Parts<'_>>, ConfigError> {
    let mut shapes = BTreeMap::new();
    for (kind, schemas) in &catalog.types {
        let connection = PartShape::of(&schemas.connection)?;
        let source = PartShape::of(&schemas.source)?;
        shapes.insert(kind.as_str(), Parts { connection, source });
    }
    Ok(shapes)
}

/// A check under way.
struct Check<'c> {
    shapes: &'c BTreeMap<&'c str, Parts<'c>>,
    own: &'c PartCheck<'c>,
    findings: &'c mut Findings,
}

impl Check<'_> {
    fn systems(&mut self, document: &Document) -> Result<Vec<SystemSpec>, ConfigError> {
        let schema = schemas::system();
        let shape = Shape::of(&schema)?;
        let mut seen = HashSet::new();
        let mut systems = Vec::new();
        for (pointer, item) in self.items(document, "systems", &shape)? {
            self.name_once(document, &pointer, text(item, "name"), &mut seen);
            let fits = self.connection(document, &pointer, item);
            let Some(system) = self.typed::<SystemSpec>(document, &pointer, item, &shape) else {
                continue;
            };
            self.report(document, &pointer, systems::check(&system));
            if fits {
                let at = format!("{pointer}/connection");
                self.ask_connector(document, &at, Part::Connection(&system));
            }
            systems.push(system);
        }
        Ok(systems)
    }

    /// `types`: the systems' types by name, if the systems could be read.
    fn entities(
        &mut self,
        document: &Document,
        types: Option<&BTreeMap<String, String>>,
    ) -> Result<Vec<EntitySpec>, ConfigError> {
        let schema = schemas::entity();
        let shape = Shape::of(&schema)?;
        let mut seen = HashSet::new();
        let mut entities = Vec::new();
        for (pointer, item) in self.items(document, "entities", &shape)? {
            if let (Some(system), Some(name)) = (text(item, "system"), text(item, "name")) {
                let id = format!("{system}.{name}");
                self.name_once(document, &pointer, Some(&id), &mut seen);
            }
            let kind = types.and_then(|types| self.type_of(document, &pointer, item, types));
            let fits = kind.is_some_and(|kind| self.source(document, &pointer, item, kind));
            let Some(entity) = self.typed::<EntitySpec>(document, &pointer, item, &shape) else {
                continue;
            };
            self.report(document, &pointer, entities::check(&entity));
            if let Some(kind) = kind.filter(|_| fits) {
                let at = format!("{pointer}/source");
                self.ask_connector(document, &at, Part::Source(kind, &entity));
            }
            entities.push(entity);
        }
        Ok(entities)
    }

    /// Whether the system's connection fits its type.
    fn connection(&mut self, document: &Document, pointer: &str, item: &Value) -> bool {
        let Some(kind) = text(item, "type") else { return false };
        let Some(parts) = self.shapes.get(kind) else {
            let known = self.shapes.keys().copied();
            let problem = format!("there is no system type `{kind}`");
            let finding = document.finding(&format!("{pointer}/type"), problem);
            self.findings.push(finding.with_help(suggestion(kind, "known types", known)));
            return false;
        };
        let pointer = format!("{pointer}/connection");
        self.part(document, &pointer, item.get("connection"), &parts.connection)
    }

    /// The type of the entity's system.
    fn type_of<'t>(
        &mut self,
        document: &Document,
        pointer: &str,
        item: &Value,
        types: &'t BTreeMap<String, String>,
    ) -> Option<&'t str> {
        let system = text(item, "system")?;
        if let Some(kind) = types.get(system) {
            return Some(kind);
        }
        let known = types.keys().map(String::as_str);
        let problem = format!("there is no system `{system}`");
        let finding = document.finding(&format!("{pointer}/system"), problem);
        self.findings.push(finding.with_help(suggestion(system, "known systems", known)));
        None
    }

    /// Whether the entity's source fits the type of its system. An unknown type is told where the
    /// system stands.
    fn source(&mut self, document: &Document, pointer: &str, item: &Value, kind: &str) -> bool {
        let Some(parts) = self.shapes.get(kind) else { return false };
        let pointer = format!("{pointer}/source");
        self.part(document, &pointer, item.get("source"), &parts.source)
    }

    /// Whether the connector's own part of a system or entity fits.
    fn part(
        &mut self,
        document: &Document,
        pointer: &str,
        part: Option<&Value>,
        expected: &PartShape<'_>,
    ) -> bool {
        let before = self.findings.len();
        let empty = Value::Object(serde_json::Map::new());
        let part = part.unwrap_or(&empty);
        self.report(document, pointer, expected.shape.problems(part));
        let mut references = Vec::new();
        malformed(part, pointer, &mut references);
        for (at, help) in references {
            let finding = document.finding(&at, "this is no reference to a secret");
            self.findings.push(finding.with_help(help));
        }
        for at in in_the_open(part, pointer, &expected.openness) {
            let finding = document.finding(&at, "a secret must not stand in this file");
            let help =
                "put it in the environment or in a file and write ${env:NAME} or ${file:/path}";
            self.findings.push(finding.with_help(help.to_owned()));
        }
        self.findings.len() == before
    }

    fn ask_connector(&mut self, document: &Document, pointer: &str, part: Part<'_>) {
        if let Err(problem) = (self.own)(part) {
            self.findings.push(document.finding(pointer, problem));
        }
    }

    /// The items of the file's one list, after the file itself was held against its shape.
    fn items<'d>(
        &mut self,
        document: &'d Document,
        member: &str,
        shape: &Shape<'_>,
    ) -> Result<Vec<(String, &'d Value)>, ConfigError> {
        let envelope = envelope(member);
        self.report(document, "", Shape::of(&envelope)?.problems(&document.value));
        let items = list(&document.value, member);
        for (pointer, value) in &items {
            self.report(document, pointer, shape.problems(value));
        }
        Ok(items)
    }

    /// The item as its type; `None` if it does not fit, which has been told or is told now.
    fn typed<T: DeserializeOwned>(
        &mut self,
        document: &Document,
        pointer: &str,
        item: &Value,
        shape: &Shape<'_>,
    ) -> Option<T> {
        match serde_json::from_value(item.clone()) {
            Ok(typed) => Some(typed),
            Err(error) => {
                if shape.problems(item).is_empty() {
                    self.findings.push(document.finding(pointer, error.to_string()));
                }
                None
            }
        }
    }

    fn name_once(
        &mut self,
        document: &Document,
        pointer: &str,
        name: Option<&str>,
        seen: &mut HashSet<String>,
    ) {
        let Some(name) = name else { return };
        if !seen.insert(name.to_owned()) {
            let finding =
                document.finding(&format!("{pointer}/name"), format!("`{name}` is there twice"));
            self.findings
                .push(finding.with_help("names are unique; rename one of the two".to_owned()));
        }
    }

    fn report(&mut self, document: &Document, base: &str, problems: Vec<Problem>) {
        for problem in problems {
            let pointer = format!("{base}{}", problem.pointer);
            let finding = if problem.at_key {
                document.finding_at_key(&pointer, problem.text)
            } else {
                document.finding(&pointer, problem.text)
            };
            self.findings.push(finding.with_help(problem.help));
        }
    }

    /// Masks what excerpts must not show of each system's connection.
    fn mask_connections(&self, document: &mut Document) {
        let mut hidden = Vec::new();
        for (pointer, item) in list(&document.value, "systems") {
            let parts = text(item, "type").and_then(|kind| self.shapes.get(kind));
            let openness = parts.map(|parts| &parts.connection.openness);
            let pointer = format!("{pointer}/connection");
            hidden.extend(masked(document, &pointer, openness.unwrap_or(&Openness::default())));
        }
        document.mask(&hidden);
    }

    /// Masks what excerpts must not show of each entity's source.
    fn mask_sources(&self, document: &mut Document, types: Option<&BTreeMap<String, String>>) {
        let mut hidden = Vec::new();
        for (pointer, item) in list(&document.value, "entities") {
            let kind = types.and_then(|types| types.get(text(item, "system")?));
            let parts = kind.and_then(|kind| self.shapes.get(kind.as_str()));
            let openness = parts.map(|parts| &parts.source.openness);
            let pointer = format!("{pointer}/source");
            hidden.extend(masked(document, &pointer, openness.unwrap_or(&Openness::default())));
        }
        document.mask(&hidden);
    }
}

/// The items of a file's list with their pointers.
fn list<'v>(value: &'v Value, member: &str) -> Vec<(String, &'v Value)> {
    let items = value.get(member).and_then(Value::as_array).into_iter().flatten();
    items.enumerate().map(|(index, item)| (format!("/{member}/{index}"), item)).collect()
}

fn text<'v>(item: &'v Value, member: &str) -> Option<&'v str> {
    item.get(member)?.as_str()
}

/// The shape of a file that holds one list.
fn envelope(member: &str) -> Value {
    let mut schema = serde_json::json!({
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
        "required": [member],
        "additionalProperties": false
    });
    schema["properties"][member] = serde_json::json!({"type": "array"});
    schema
}
