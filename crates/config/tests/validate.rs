//! Settings, systems and entities checked at once, with what they refer to.

use std::fs;
use std::path::Path;

use alluvium_config::{Environment, LoadOptions, Metadata, Reach, Settings, validate};

use crate::connectors::catalog;
use crate::said;

const ENTITIES: &str = r#"{"entities": []}"#;

fn options(folder: &Path, variables: &[(&str, &str)]) -> LoadOptions {
    LoadOptions {
        path: Some(folder.to_owned()),
        environment: Environment::from_pairs(variables.iter().copied()),
        ..LoadOptions::default()
    }
}

/// A folder with these files, and what is said of them without its path.
fn told(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let Err(error) = validate(options(folder.path(), variables), &catalog(), &|_| Ok(())) else {
        return Vec::new();
    };
    let path = format!("{}/", folder.path().display());
    said(&error).iter().map(|line| line.replace(&path, "")).collect()
}

#[test]
fn a_password_of_the_ledger_that_leads_nowhere_is_told() {
    let settings = "[ledger]\nurl = \"postgres://a@db/x\"\npassword = \"${env:LEDGER}\"\n";
    let systems = ("systems.json", r#"{"systems": []}"#);
    let files = [("alluvium.toml", settings), systems, ("entities.json", ENTITIES)];
    let said = told(&files, &[]);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].starts_with("${env:LEDGER}: the environment has neither LEDGER nor"),
        "{said:#?}"
    );
    assert!(told(&files, &[("LEDGER", "x")]).is_empty());
}

#[test]
fn secrets_of_the_bus_that_is_used_are_looked_for_and_those_of_others_are_not() {
    let nats = "[bus.nats]\nuser = \"a\"\npassword = \"${env:NATS}\"\n";
    let kafka = "[bus.kafka]\nusername = \"a\"\npassword = \"${env:KAFKA}\"\n";
    for (used, of_it) in [("nats", Some("NATS")), ("kafka", Some("KAFKA")), ("embedded", None)] {
        let settings = format!("[bus]\ntype = \"{used}\"\n{nats}{kafka}");
        let systems = ("systems.json", r#"{"systems": []}"#);
        let files = [("alluvium.toml", &*settings), systems, ("entities.json", ENTITIES)];
        let said = told(&files, &[]);
        let expected: Vec<String> = of_it.iter().map(|name| format!("${{env:{name}}}:")).collect();
        assert_eq!(said.len(), expected.len(), "{used}: {said:#?}");
        let told_of = |(said, expected): (&String, &String)| said.starts_with(expected);
        assert!(said.iter().zip(&expected).all(told_of), "{used}: {said:#?}");
        let there: Vec<_> = of_it.iter().map(|name| (*name, "x")).collect();
        assert!(told(&files, &there).is_empty(), "{used}");
    }
}

/// A system whose connection refers to two secrets.
fn referring() -> String {
    r#"{"systems": [{"name": "api", "type": "web", "connection": {"base_url": "x",
        "headers": {"X-Tenant": "${env:TENANT}"},
        "auth": {"type": "bearer", "token": "Key ${file:key}-${env:PART}"}}}]}"#
        .to_owned()
}

#[test]
fn what_is_wrong_with_the_settings_keeps_nothing_of_the_metadata_from_being_told() {
    let settings = "[http]\nlisten = 7\n[layers]\nbatch_bytes = \"1B\"\nbatch_recrods = 5\n\
        [metadata]\nsystems = \"mine.json\"\n";
    let systems = r#"{"systems": [{"name": "api", "type": "wbe"}]}"#;
    let files = [("alluvium.toml", settings), ("mine.json", systems)];
    let said = told(&files, &[("ALLUVIUM_RUNTIME__RETRY__ATTEMPTS", "many")]);
    let expected = [
        "alluvium.toml:2:10: `http.listen`: this must be text, not a number",
        "alluvium.toml:4:15: `layers.batch_bytes`: 1B is too little",
        "alluvium.toml:5:1: there is no setting `layers.batch_recrods`",
        "entities.json: there is no such file",
        "mine.json:1:38: there is no system type `wbe`",
        "ALLUVIUM_RUNTIME__RETRY__ATTEMPTS: `runtime.retry.attempts`: this must be a whole number",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
}

#[test]
fn every_reference_that_leads_nowhere_is_told_where_it_stands() {
    let systems = referring();
    let files = [("systems.json", systems.as_str()), ("entities.json", ENTITIES)];
    let said = told(&files, &[]);
    let expected = [
        "systems.json:2:33: ${env:TENANT}: the environment has neither TENANT nor TENANT_FILE (set",
        "systems.json:3:45: ${file:key}: the file cannot be opened: ",
        "systems.json:3:45: ${env:PART}: the environment has neither PART nor PART_FILE (set PART",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
    let there = [("systems.json", systems.as_str()), ("entities.json", ENTITIES), ("key", "k")];
    assert_eq!(told(&there, &[("TENANT", "t"), ("PART", "p")]), [""; 0]);
}

#[test]
fn only_the_systems_that_are_reached_need_what_they_refer_to() {
    let folder = tempfile::tempdir().unwrap();
    let off = referring().replace(r#""name": "api","#, r#""name": "api", "enabled": false,"#);
    fs::write(folder.path().join("systems.json"), off).unwrap();
    fs::write(folder.path().join("entities.json"), ENTITIES).unwrap();
    let settings = Settings::load(options(folder.path(), &[])).unwrap();
    let (api, other) = ("api".parse().unwrap(), "other".parse().unwrap());
    for (reach, finds) in [
        (Reach::Nowhere, false),
        (Reach::Enabled, false),
        (Reach::One(&other), false),
        (Reach::One(&api), true),
        (Reach::All, true),
    ] {
        let loaded = Metadata::load_with(&settings, &catalog(), &|_| Ok(()), reach);
        assert_eq!(loaded.is_err(), finds, "{reach:?}");
    }
}
