//! Systems and entities: read, held against their schemas and against each other.

mod check;
mod columns;
mod entities;
mod paths;
mod systems;

use std::path::Path;

use alluvium_model::{EntityId, EntitySpec, SystemName, SystemSpec};

use crate::document::read_text;
use crate::error::{ConfigError, Finding, Findings};
use crate::schemas::SchemaCatalog;
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

impl Metadata {
    /// Reads both files that the settings name, and checks them. All that is wrong is in the error.
    pub fn load(settings: &Settings, catalog: &SchemaCatalog) -> Result<Self, ConfigError> {
        Self::load_with(settings, catalog, &|_| Ok(()))
    }

    /// The same, and asks `own` about each connector's part that fits its schema.
    pub fn load_with(
        settings: &Settings,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
    ) -> Result<Self, ConfigError> {
        Self::load_files(&settings.systems_path(), &settings.entities_path(), catalog, own)
    }

    /// The same for two files by their paths.
    pub fn load_files(
        systems: &Path,
        entities: &Path,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Findings::default();
        let names = [systems, entities].map(|path| path.display().to_string());
        let systems = read(systems, &names[0], &mut findings);
        let entities = read(entities, &names[1], &mut findings);
        let named = |name, text| Named { name, text };
        let systems = systems.as_deref().map(|text| named(&names[0], text));
        let entities = entities.as_deref().map(|text| named(&names[1], text));
        check::check(systems, entities, catalog, own, findings)
    }

    /// The same for two texts.
    pub fn parse(
        systems: Named<'_>,
        entities: Named<'_>,
        catalog: &SchemaCatalog,
        own: &PartCheck<'_>,
    ) -> Result<Self, ConfigError> {
        check::check(Some(systems), Some(entities), catalog, own, Findings::default())
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
