//! What is generated for people and editors is what the code does.
//!
//! `UPDATE_DOCS=1 cargo test -p alluvium-config` writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alluvium_config::{DEFAULT_SETTINGS, SchemaCatalog, render_schema, schemas};
use serde_json::{Value, json};

use crate::connectors::catalog;

const BEGIN: &str = "<!-- settings: begin -->\n";
const END: &str = "<!-- settings: end -->\n";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn table() -> String {
    let schema = schemas(&SchemaCatalog::default()).remove("settings.schema.json").unwrap();
    let defaults: Value = toml::from_str(DEFAULT_SETTINGS).unwrap();
    let mut rows = "| setting | default | meaning |\n|---|---|---|\n".to_owned();
    add_rows(&schema, &defaults, "", &mut rows);
    rows
}

fn add_rows(schema: &Value, defaults: &Value, prefix: &str, rows: &mut String) {
    for (name, member) in schema["properties"].as_object().unwrap() {
        let (dotted, default) = (format!("{prefix}{name}"), &defaults[name]);
        if member.get("properties").is_some() {
            add_rows(member, default, &format!("{dotted}."), rows);
            continue;
        }
        let default = if default.is_null() { String::new() } else { format!("`{default}`") };
        let meaning = member["description"].as_str().unwrap().replace('\n', " ");
        rows.push_str(&format!("| `{dotted}` | {default} | {meaning} |\n"));
    }
}

fn same_or_update(path: &Path, expected: &str) {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found != expected && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, expected).unwrap();
    } else {
        assert!(found == expected, "{} is not up to date: UPDATE_DOCS=1", path.display());
    }
}

#[test]
fn the_table_of_settings_is_up_to_date() {
    let path = docs().join("configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    same_or_update(&path, &format!("{before}{BEGIN}\n{}\n{END}{after}", table()));
}

#[test]
fn the_schema_of_the_settings_is_up_to_date() {
    let schema = schemas(&SchemaCatalog::default()).remove("settings.schema.json").unwrap();
    same_or_update(&docs().join("schema/settings.schema.json"), &render_schema(&schema).unwrap());
}

#[test]
fn schemas_are_the_same_for_the_same_catalog() {
    let texts = || -> BTreeMap<_, _> {
        schemas(&catalog()).into_iter().map(|(n, s)| (n, render_schema(&s).unwrap())).collect()
    };
    assert_eq!(texts(), texts());
    assert_eq!(texts().len(), 3);
}

#[test]
fn editors_are_told_what_a_connection_of_a_type_needs() {
    let schema = schemas(&catalog()).remove("systems.schema.json").unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let system = |kind: &str, connection: Value| {
        validator
            .is_valid(&json!({"systems": [{"name": "a", "type": kind, "connection": connection}]}))
    };
    let auth = |auth: Value| system("web", json!({"base_url": "x", "auth": auth}));
    assert!(system("file", json!({"path": "x"})));
    assert!(!system("file", json!({"base_url": "x"})));
    assert!(!system("none", json!({})));
    assert!(auth(json!({"type": "bearer", "token": "${env:A}"})));
    assert!(!auth(json!({"type": "bearer"})), "definitions of a connector keep their meaning");
}

#[test]
fn editors_are_told_what_a_source_may_be() {
    let schema = schemas(&catalog()).remove("entities.schema.json").unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let entity = |source: Value| {
        validator.is_valid(&json!({"entities": [{"system": "a", "name": "b", "source": source}]}))
    };
    assert!(entity(json!({"path": "/x"})) && entity(json!({"table": "x"})));
    assert!(!entity(json!({"tabel": "x"})));
    let described =
        schema["properties"]["entities"]["items"]["properties"]["keys"]["description"].as_str();
    assert!(described.unwrap().contains("name a row"));
}

#[test]
fn every_setting_has_a_meaning() {
    assert!(table().lines().skip(2).all(|row| !row.ends_with("|  |")), "{}", table());
}
