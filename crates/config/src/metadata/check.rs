//! One pass over both files, collecting all that is wrong.

use std::collections::{BTreeMap, HashSet};

use alluvium_model::{EntitySpec, SystemSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::remainder::Remainder;
use super::{Asked, Metadata, Named, Part, entities, systems};
use crate::conform::{Problem, Shape};
use crate::document::Document;
use crate::error::{ConfigError, Findings};
use crate::mask::{Openness, in_the_open, masked, with_users};
use crate::nearest::suggestion;
use crate::schemas::{self, SchemaCatalog};
use crate::secrets::malformed;

/// Checks both texts, and gives what can be read of them: it counts only if nothing was found. A
/// text that could not be read has been told already.
pub(super) fn check(
    systems: Option<Named<'_>>,
    entities: Option<Named<'_>>,
    asked: &Asked<'_>,
    findings: &mut Findings,
) -> Result<Metadata, ConfigError> {
    // A text that may hold secrets is not quoted when it is broken: nobody could say what to mask.
    let mut parse =
        |named: Option<Named<'_>>| Document::json(named?.name, named?.text, false, findings);
    let (systems, entities) = (parse(systems), parse(entities));
    let types = systems.as_ref().map(|document| types_of(&document.value));
    let shapes = shapes(asked.catalog)?;
    let mut check = Check { shapes: &shapes, asked, findings };
    let mut metadata = Metadata::default();
    if let Some(mut document) = systems {
        check.mask_connections(&mut document);
        metadata.systems = check.systems(&document)?;
    }
    if let Some(mut document) = entities {
        check.mask_sources(&mut document, types.as_ref());
        metadata.entities = check.entities(&document, types.as_ref())?;
    }
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
    /// Whether the connector wants nothing here.
    takes_nothing: bool,
}

impl<'c> PartShape<'c> {
    fn of(schema: &'c Value) -> Result<Self, ConfigError> {
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let members = schema.get("properties").and_then(Value::as_object);
        let takes_nothing = closed && members.is_none_or(|members| members.is_empty());
        Ok(Self { shape: Shape::of(schema)?, openness: Openness::of(schema), takes_nothing })
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
    asked: &'c Asked<'c>,
    findings: &'c mut Findings,
}

/// An item as its type, without what does not fit.
struct Typed<T> {
    item: T,
    remainder: Remainder,
    /// Whether all of it fits.
    whole: bool,
}

impl Check<'_> {
    fn systems(&mut self, document: &Document) -> Result<Vec<SystemSpec>, ConfigError> {
        let schema = schemas::system();
        let shape = Shape::of(&schema)?;
        let mut seen = HashSet::new();
        let mut systems = Vec::new();
        for (pointer, item) in self.items(document, "systems")? {
            self.name_once(document, &pointer, text(item, "name"), &mut seen);
            let fits = self.connection(document, &pointer, item);
            self.references(document, &pointer, item);
            let Some(system) = self.typed::<SystemSpec>(document, &pointer, item, &shape) else {
                continue;
            };
            self.report_rest(document, &pointer, &system, systems::check(&system.item));
            if fits && system.whole {
                let at = format!("{pointer}/connection");
                self.ask_connector(document, &at, Part::Connection(&system.item));
            }
            systems.push(system.item);
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
        for (pointer, item) in self.items(document, "entities")? {
            if let (Some(system), Some(name)) = (text(item, "system"), text(item, "name")) {
                let id = format!("{system}.{name}");
                self.name_once(document, &pointer, Some(&id), &mut seen);
            }
            let kind = types.and_then(|types| self.type_of(document, &pointer, item, types));
            let fits = kind.is_some_and(|kind| self.source(document, &pointer, item, kind));
            let Some(entity) = self.typed::<EntitySpec>(document, &pointer, item, &shape) else {
                continue;
            };
            self.report_rest(document, &pointer, &entity, entities::check(&entity.item, item));
            if let Some(kind) = kind.filter(|_| fits && entity.whole) {
                let at = format!("{pointer}/source");
                self.ask_connector(document, &at, Part::Source(kind, &entity.item));
            }
            entities.push(entity.item);
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
        self.part(document, (pointer, "connection"), (item, kind), &parts.connection)
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
        self.part(document, (pointer, "source"), (item, kind), &parts.source)
    }

    /// Whether the connector's own part, a member of this system or entity, fits. `kind`: the type of
    /// the system.
    fn part(
        &mut self,
        document: &Document,
        (pointer, member): (&str, &str),
        (item, kind): (&Value, &str),
        expected: &PartShape<'_>,
    ) -> bool {
        let before = self.findings.len();
        let empty = Value::Object(serde_json::Map::new());
        let part = item.get(member).unwrap_or(&empty);
        let pointer = &format!("{pointer}/{member}");
        if expected.takes_nothing && *part != empty {
            let text = format!("a system of type `{kind}` takes no `{member}`");
            let finding = document.finding_at_key(pointer, text);
            self.findings.push(finding.with_help("leave it out".to_owned()));
            return false;
        }
        self.report(document, pointer, expected.shape.problems(part));
        self.report(document, "", malformed(part, pointer));
        self.report(document, "", in_the_open(part, pointer, &expected.openness));
        self.report(document, "", with_users(part, pointer));
        self.findings.len() == before
    }

    /// Tells which references of a system's connection lead nowhere, where they must be there.
    fn references(&mut self, document: &Document, pointer: &str, item: &Value) {
        let Some(connection) = item.get("connection") else { return };
        if let Some(secrets) = self.asked.secrets.filter(|_| self.asked.reach.is_meant(item)) {
            let pointer = format!("{pointer}/connection");
            self.report(document, "", secrets.missing(connection, &pointer));
        }
    }

    fn ask_connector(&mut self, document: &Document, pointer: &str, part: Part<'_>) {
        if let Err(problem) = (self.asked.own)(part) {
            self.findings.push(document.finding(pointer, problem));
        }
    }

    /// The items of the file's one list, after the file itself was held against its shape.
    fn items<'d>(
        &mut self,
        document: &'d Document,
        member: &str,
    ) -> Result<Vec<(String, &'d Value)>, ConfigError> {
        let envelope = envelope(member);
        self.report(document, "", Shape::of(&envelope)?.problems(&document.value));
        Ok(list(&document.value, member))
    }

    /// The item as its type, without what does not fit, which is told. `None` if too little is left.
    fn typed<T: DeserializeOwned>(
        &mut self,
        document: &Document,
        pointer: &str,
        item: &Value,
        shape: &Shape<'_>,
    ) -> Option<Typed<T>> {
        let problems = shape.problems(item);
        let whole = problems.is_empty();
        let remainder = Remainder::of(item, shape, &problems);
        self.report(document, pointer, problems);
        match serde_json::from_value(remainder.value.clone()) {
            Ok(item) => Some(Typed { item, remainder, whole }),
            Err(error) => {
                if whole {
                    self.findings.push(document.finding(pointer, error.to_string()));
                }
                None
            }
        }
    }

    /// Tells what is wrong with the rest of an item, where it stands in the item itself.
    fn report_rest<T>(
        &mut self,
        document: &Document,
        pointer: &str,
        typed: &Typed<T>,
        mut problems: Vec<Problem>,
    ) {
        for problem in &mut problems {
            problem.pointer = typed.remainder.original(&problem.pointer);
        }
        self.report(document, pointer, problems);
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
