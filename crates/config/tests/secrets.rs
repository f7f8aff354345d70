//! Secrets from files, and what is never shown.

use std::fs;

use alluvium_config::{Environment, Secrets, resolve};
use serde_json::json;

use crate::said;

#[test]
fn a_secret_can_stand_in_a_file_and_loses_one_newline() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "one\n\n").unwrap();
    fs::write(folder.path().join("windows"), "two\r\n").unwrap();
    let path = folder.path().join("windows");
    let environment = Environment::from_pairs([("API_KEY_FILE", path.to_str().unwrap())]);
    let value = json!({"a": "${file:token}", "b": "Key ${env:API_KEY}"});
    assert_eq!(
        resolve(&value, &environment, folder.path()).unwrap(),
        json!({"a": "one\n", "b": "Key two"})
    );
}

#[test]
fn the_environment_wins_over_the_file_beside_it() {
    let environment = Environment::from_pairs([("A", "one"), ("A_FILE", "/nowhere")]);
    let secrets = Secrets::new(environment, "/".as_ref());
    assert_eq!(secrets.resolve(&json!("${env:A}")).unwrap(), json!("one"));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large"), "x".repeat(64 * 1024 + 1)).unwrap();
    let error =
        resolve(&json!("${file:large}"), &Environment::default(), folder.path()).unwrap_err();
    assert!(said(&error)[0].starts_with("${file:large}: the file is larger than"), "{error}");
    assert!(!format!("{error:?}").contains("xxx"));
}
