//! The import table of the house, held against what the crates really depend on.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom. `alluvium` and the end-to-end package may import all.
const TABLE: &[(&str, &[&str])] = &[
    ("alluvium-model", &[]),
    ("alluvium-wire", &["model"]),
    ("alluvium-config", &["model"]),
    ("alluvium-telemetry", &["model"]),
    ("alluvium-connector", &["model", "wire"]),
    ("alluvium-bus", &["model", "wire"]),
    ("alluvium-ledger", &["model"]),
    ("alluvium-lake", &["model"]),
    ("alluvium-layers", &["model", "wire", "lake"]),
    ("alluvium-query", &["model", "lake", "ledger"]),
    (
        "alluvium-runtime",
        &["model", "wire", "connector", "bus", "ledger", "lake", "layers", "telemetry"],
    ),
    ("alluvium-api", &["model", "config", "ledger", "query", "runtime", "telemetry"]),
    ("alluvium-testkit", &[]),
    ("alluvium-connector-*", &["model", "wire", "connector"]),
];

/// What only one crate, or none, may know.
const CONCRETE: &[(&str, &[&str])] = &[
    ("tokio", &["alluvium-model", "alluvium-wire"]),
    ("sqlx", &["alluvium-model", "alluvium-wire", "alluvium-runtime", "alluvium-layers"]),
    ("fjall", &["alluvium-model", "alluvium-runtime", "alluvium-layers", "alluvium-api"]),
    ("async-nats", &["alluvium-model", "alluvium-runtime", "alluvium-layers", "alluvium-api"]),
    ("deltalake", &["alluvium-model", "alluvium-runtime", "alluvium-layers", "alluvium-ledger"]),
    ("axum", &["alluvium-runtime", "alluvium-query", "alluvium-connector"]),
    ("anyhow", &["alluvium-model", "alluvium-lake", "alluvium-layers", "alluvium-runtime"]),
];

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            (package.name.to_string(), normal.map(|d| d.name.clone()).collect())
        })
        .collect()
}

fn allowed(package: &str) -> Option<BTreeSet<String>> {
    let row = TABLE.iter().find(|(name, _)| match name.strip_suffix('*') {
        Some(prefix) => package.starts_with(prefix),
        None => *name == package,
    })?;
    Some(row.1.iter().map(|name| format!("alluvium-{name}")).collect())
}

#[test]
fn every_crate_imports_only_what_the_table_allows() {
    let imports = imports();
    assert!(imports.len() > TABLE.len(), "the workspace was not read: {imports:?}");
    for (package, dependencies) in &imports {
        if package == "alluvium" || package == "alluvium-tests" || package == "alluvium-benches" {
            continue;
        }
        let allowed = allowed(package).unwrap_or_else(|| panic!("{package} is not in the table"));
        let ours = dependencies.iter().filter(|d| d.starts_with("alluvium"));
        let wrong: Vec<_> = ours.filter(|d| !allowed.contains(*d)).collect();
        assert!(wrong.is_empty(), "{package} must not import {wrong:?}");
    }
}

#[test]
fn every_row_of_the_table_is_a_crate() {
    let imports = imports();
    for (name, _) in TABLE.iter().filter(|(name, _)| !name.ends_with('*')) {
        assert!(imports.contains_key(*name), "{name} is in the table and not in the workspace");
    }
}

#[test]
fn engines_stay_behind_the_ports() {
    let imports = imports();
    for (engine, strangers) in CONCRETE {
        for stranger in *strangers {
            assert!(!imports[*stranger].contains(*engine), "{stranger} must not know {engine}");
        }
    }
}
