//! Every example configuration, and what `alluvium init` writes, reads as it is.

use std::fs;
use std::path::{Path, PathBuf};

use alluvium_config::{
    ConnectorSchemas, Environment, LoadOptions, Metadata, SchemaCatalog, Settings, init_files,
};
use serde_json::json;

use crate::said;

/// The types of the examples. The connectors' own parts are held against the connectors' schemas
/// where the connectors are known: in the end-to-end tests.
fn any_connector() -> SchemaCatalog {
    let any = || ConnectorSchemas { connection: json!({}), source: json!({}) };
    let types = ["message", "rest", "sqlite"].map(|kind| (kind.to_owned(), any()));
    SchemaCatalog { types: types.into() }
}

#[track_caller]
fn reads(folder: &Path) -> Metadata {
    let options = LoadOptions {
        path: Some(folder.to_owned()),
        environment: Environment::default(),
        ..LoadOptions::default()
    };
    let read = Settings::load(options).and_then(|s| Metadata::load(&s, &any_connector()));
    let metadata = read.unwrap_or_else(|error| panic!("{}: {:#?}", folder.display(), said(&error)));
    assert!(!metadata.systems.is_empty() && !metadata.entities.is_empty());
    metadata
}

#[test]
fn every_example_reads() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    let folders: Vec<PathBuf> = fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(folders.len() >= 3, "{folders:?}");
    for folder in folders {
        assert!(folder.join("alluvium.toml").is_file(), "{}", folder.display());
        reads(&folder);
    }
}

#[test]
fn what_init_writes_reads() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in init_files() {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let metadata = reads(folder.path());
    assert_eq!(metadata.systems[0].triggers.len(), 1);
}
