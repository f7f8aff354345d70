//! Systems and entities: read, held against their schemas and against each other.

mod check;
mod columns;
mod entities;
mod paths;
mod remainder;
mod systems;

use std::path::Path;

use alluvium_model::{EntityId, EntitySpec, SystemName, SystemSpec};
use serde_json::Value;

use crate::document::read_text;
use crate::error::{ConfigError, Finding, Findings};
use crate::schemas::SchemaCatalog;
use crate::secrets::Secrets;
use crate::settings::Settings;

const FILE_LIMIT: u64 = 16 << 20;

/// What is ingested: all systems and entities, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The systems, in the order of their file.
    pub systems: Vec<SystemSpec>,
    /// The entities, in the order of their file. Each is of one of the systems.
    pub entities: Vec<EntitySpec>,
}

/// The text of a file and the name that errors give it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'t> {
    /// What errors call it.
    pub name: &'t str,
    /// What it says.
    pub text: &'t str,
}

/// A connector's own part of the metadata, for a check that its schema cannot make.
#[derive(Debug, Clone, Copy)]
pub enum Part<'m> {
    /// The `connection` of a system; its secrets are references still.
    Connection(&'m SystemSpec),
    /// The `source` of an entity, of a system of this type.
    Source(&'m str, &'m EntitySpec),
}

/// A connector's check: what is wrong with a part, in words that hold no value.
pub type PartCheck<'c> = dyn Fn(Part<'_>) -> Result<(), String> + 'c;

/// The systems that are to be reached: what their connections refer to must be there.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'n> {
    /// None: the metadata are only looked at.
    Nowhere,
    /// This one.
    One(&'n SystemName),
    /// Those whose triggers are heeded.
    Enabled,
    /// All.
    All,
}

impl Reach<'_> {
    /// Whether a system is among them, as it stands in its file.
    fn is_meant(self, system: &Value) -> bool {
        match self {
            Self::Nowhere => false,
            Self::One(name) => system.get("name").and_then(Value::as_str) == Some(name.as_str()),
            Self::Enabled => system.get("enabled") != Some(&Value::Bool(false)),
            Self::All => true,
        }
    }
}

/// By what metadata are checked.
struct Asked<'c> {
    catalog: &'c SchemaCatalog,
    own: &'c PartCheck<'c>,
    secrets: Option<&'c Secrets>,
    reach: Reach<'c>,
}

impl Metadata {
    /// Reads both files that the settings name, and checks them. All that is wrong is in the error.
    pub fn load(settings: &Settings, catalog: &SchemaCatalog) -> Result<Self, ConfigError> {
        Self::load_with(settings, catalog, &|_| Ok(()), Reach::Nowhere)
    }

    /// The same, asks `own` about each connector's part that fits its schema, and looks for what the
    /// connections of the systems within `reach` refer to.
    pub fn load_with(
        settings: &Settings,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
        reach: Reach<'_>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Findings::default();
        let metadata = Self::find(settings, catalog, own, reach, &mut findings)?;
        findings.into_result()?;
        Ok(metadata)
    }

    /// The same for two files by their paths.
    pub fn load_files(
        systems: &Path,
        entities: &Path,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Findings::default();
        let asked = Asked { catalog, own, secrets: None, reach: Reach::Nowhere };
        let metadata = read_and_check(systems, entities, &asked, &mut findings)?;
        findings.into_result()?;
        Ok(metadata)
    }

    /// The same for two texts.
    pub fn parse(
        systems: Named<'_>,
        entities: Named<'_>,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Findings::default();
        let asked = Asked { catalog, own, secrets: None, reach: Reach::Nowhere };
        let metadata = check::check(Some(systems), Some(entities), &asked, &mut findings)?;
        findings.into_result()?;
        Ok(metadata)
    }

    /// What can be read of both files. It counts only if nothing was found.
    pub(crate) fn find(
        settings: &Settings,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
        reach: Reach<'_>,
        findings: &mut Findings,
    ) -> Result<Self, ConfigError> {
        let secrets = settings.secrets();
        let asked = Asked { catalog, own, secrets: Some(&secrets), reach };
        read_and_check(&settings.systems_path(), &settings.entities_path(), &asked, findings)
    }

    /// The system called `name`.
    pub fn system(&self, name: &SystemName) -> Option<&SystemSpec> {
        self.systems.iter().find(|system| system.name == *name)
    }

    /// The entity with this id.
    pub fn entity(&self, id: &EntityId) -> Option<&EntitySpec> {
        self.entities.iter().find(|entity| entity.system == id.system && entity.name == id.entity)
    }

    /// The entities of a system, in the order of their file.
    pub fn entities_of(&self, system: &SystemName) -> impl Iterator<Item = &EntitySpec> {
        self.entities.iter().filter(move |entity| entity.system == *system)
    }
}

fn read_and_check(
    systems: &Path,
    entities: &Path,
    asked: &Asked<'_>,
    findings: &mut Findings,
) -> Result<Metadata, ConfigError> {
    let names = [systems, entities].map(|path| path.display().to_string());
    let systems = read(systems, &names[0], findings);
    let entities = read(entities, &names[1], findings);
    let named = |name, text| Named { name, text };
    let systems = systems.as_deref().map(|text| named(&names[0], text));
    let entities = entities.as_deref().map(|text| named(&names[1], text));
    check::check(systems, entities, asked, findings)
}

fn read(path: &Path, name: &str, findings: &mut Findings) -> Option<String> {
    match read_text(path, name, FILE_LIMIT) {
        Ok(Some(text)) => return Some(text),
        Ok(None) => {
            let finding = Finding::in_file(name, "there is no such file");
            findings.push(finding.with_help("`alluvium init` writes one".to_owned()));
        }
        Err(finding) => findings.push(finding),
    }
    None
}
