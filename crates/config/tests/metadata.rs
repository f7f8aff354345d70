//! Systems and entities: what is taken, and what is said of what is not.

use std::fs;

use alluvium_config::{ConfigError, Metadata, Named, Part};

use crate::connectors::catalog;
use crate::{said, shown};

const SYSTEMS: &str =
    r#"{"systems": [{"name": "shop", "type": "file", "connection": {"path": "x"}}]}"#;

fn parse(systems: &str, entities: &str) -> Result<Metadata, ConfigError> {
    let systems = Named { name: "systems.json", text: systems };
    let entities = Named { name: "entities.json", text: entities };
    Metadata::parse(systems, entities, &catalog(), &|_| Ok(()))
}

fn wrong(systems: &str, entities: &str) -> Vec<String> {
    said(&parse(systems, entities).unwrap_err())
}

/// What is said of one system with these members beside its name and type.
fn of_system(members: &str) -> Vec<String> {
    let text = format!(
        r#"{{"systems": [{{"name": "api", "type": "web", "connection": {{"base_url": "x"}}, {members}}}]}}"#
    );
    wrong(&text, r#"{"entities": []}"#)
}

/// What is said of one entity with these members beside its name.
fn of_entity(members: &str) -> Vec<String> {
    wrong(
        SYSTEMS,
        &format!(r#"{{"entities": [{{"system": "shop", "name": "orders", {members}}}]}}"#),
    )
}

#[track_caller]
fn one(said: &[String], parts: &[&str]) {
    assert_eq!(said.len(), 1, "{said:#?}");
    for part in parts {
        assert!(said[0].contains(part), "{part}: {said:#?}");
    }
}

#[test]
fn what_is_right_is_read() {
    let entities = r#"{"$schema": "x", "entities": [{
        "system": "shop", "name": "orders", "load": "delta", "source": {"table": "orders"},
        "keys": ["id"],
        "sequence_by": ["updated", {"carried": "timestamp", "unit": "us"}, {"carried": "lsn"}],
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "updated", "type": "timestamp", "path": "/meta/updated"},
            {"name": "due", "type": "date", "unit": "d"},
            {"name": "price", "type": "decimal", "precision": 12, "scale": 2, "path": "$.price"},
            {"name": "note", "type": "string", "length": 20, "history": "latest"}
        ]
    }]}"#;
    let metadata = parse(SYSTEMS, entities).unwrap();
    let entity = metadata.entity(&"shop.orders".parse().unwrap()).unwrap();
    assert_eq!(entity.columns.len(), 5);
    let system = metadata.system(&"shop".parse().unwrap()).unwrap();
    assert_eq!(metadata.entities_of(&system.name).count(), 1);
}

#[test]
fn the_error_marks_the_exact_place_in_the_text() {
    let systems = "{\n  \"systems\": [\n    {\n      \"name\": \"api\",\n      \"type\": \"wbe\"\n    }\n  ]\n}\n";
    let error = parse(systems, r#"{"entities": []}"#).unwrap_err();
    assert_eq!(
        said(&error),
        [
            "systems.json:5:15: there is no system type `wbe` (did you mean `web`? known types: `web`, `feed`, `file`, `push`)"
        ]
    );
    let text = shown(&error);
    assert!(text.contains("systems.json:5:15"), "{text}");
    assert!(text.contains("5 |       \"type\": \"wbe\""), "{text}");
    assert!(text.contains("did you mean `web`?"), "{text}");
}

#[test]
fn all_errors_of_both_files_are_told_at_once() {
    let systems = r#"{"systems": [
        {"name": "Shop", "type": "file", "connection": {"pth": "x"}},
        {"name": "api", "type": "web", "timezone": "Europe/Osl", "connection": {"base_url": 7}},
        {"name": "api", "type": "nothing"}
    ], "extra": 1}"#;
    let entities = r#"{"entities": [
        {"system": "shop", "name": "orders"},
        {"system": "api", "name": "events", "source": {"path": "/", "recrods": "$"}, "keys": 7}
    ]}"#;
    let said = wrong(systems, entities);
    let expected = [
        "entities.json:2:20: there is no system `shop` (did you mean `Shop`?",
        "entities.json:3:69: `recrods` is not known here (did you mean `records`?",
        "entities.json:3:94: this must be a list, not a number",
        "systems.json:2:18: this does not have the right form (use 1 to 64 of a-z, 0-9 and _",
        "systems.json:2:56: `path` is missing (`path`: The file)",
        "systems.json:2:57: `pth` is not known here (did you mean `path`?",
        "systems.json:3:52: there is no time zone `Europe/Osl` (did you mean `Europe/Oslo`?",
        "systems.json:3:93: this must be text, not a number (Where the API is)",
        "systems.json:4:18: `api` is there twice",
        "systems.json:4:33: there is no system type `nothing` (known types:",
        "systems.json:5:8: `extra` is not known here (known here: `systems`)",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
}

#[test]
fn what_is_wrong_in_one_part_keeps_nothing_of_the_other_parts_from_being_told() {
    let systems = r#"{"systems": [
        {"nmae": "shop", "type": "file", "connection": {"path": "x"}, "triggers": [
            {"type": "crno"}, {"type": "cron", "expression": "0 0 31 2 *", "timzone": "UTC"}]}
    ]}"#;
    let entities = r#"{"entities": [
        {"system": "shop", "name": "Orders", "load": "ful", "keys": ["idd", 7, "id"], "columns": [
            {"name": "id", "type": "lnog"}, {"name": "_x", "type": "long"},
            {"name": "a", "type": "long", "path": "$..a", "nulable": true}]}
    ]}"#;
    let said = wrong(systems, entities);
    let expected = [
        "entities.json:2:20: there is no system `shop`",
        "entities.json:2:36: this does not have the right form",
        "entities.json:2:54: this is not one of the known values",
        "entities.json:2:70: there is no column `idd`",
        "entities.json:2:77: this must be text, not a number",
        "entities.json:3:36: this is not one of the known values (did you mean `long`?",
        "entities.json:3:54: `_x`: names that begin with _",
        "entities.json:4:51: this JSONPath may name more than one place",
        "entities.json:4:59: `nulable` is not known here",
        "systems.json:2:9: `name` is missing",
        "systems.json:2:10: `nmae` is not known here",
        "systems.json:3:22: there is no such `type`",
        "systems.json:3:62: this time never comes",
        "systems.json:3:76: `timzone` is not known here",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
}

#[test]
fn an_address_and_a_json_path_that_do_not_read_are_told_where_they_stand() {
    let systems = r#"{"systems": [{"name": "shop", "type": "feed",
        "connection": {"base_url": "ftp://files.example.com"}}]}"#;
    let entities = r#"{"entities": [{"system": "shop", "name": "orders",
        "source": {"records": "$.items["}}, {"system": "shop", "name": "people",
        "source": {"records": "items"}}]}"#;
    let said = wrong(systems, entities);
    let expected = [
        "entities.json:2:31: this is no JSONPath: ",
        "entities.json:3:31: this does not have the right form",
        "systems.json:2:36: only addresses of http and https are asked (write http:// or https://",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "\n{said}\n{expected}");
    }
}

#[test]
fn a_header_that_says_who_asks_is_a_reference_and_others_may_stand_in_the_open() {
    let systems = r#"{"systems": [{"name": "api", "type": "web", "connection": {"base_url": "x", "headers": {
        "Accept": "application/json", "X-Version": "2",
        "authorization": "Bearer ${env:TOKEN}", "X-Api-Key": "${file:/run/key}",
        "Cookie": "hunter2",
        "proxy-authorization": "hunter2"}}}]}"#;
    let said = wrong(systems, r#"{"entities": []}"#);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("systems.json:4:19: a secret must not stand"), "{said:#?}");
    assert!(said[1].starts_with("systems.json:5:32: a secret must not stand"), "{said:#?}");
}

#[test]
fn a_system_that_is_pushed_to_takes_no_source_and_no_connection() {
    let systems = r#"{"systems": [{"name": "shop", "type": "push", "connection": {"path": "x"}}]}"#;
    let entities = r#"{"entities": [{"system": "shop", "name": "a", "source": {}},
        {"system": "shop", "name": "b", "source": {"path": "/b", "x": 1}}]}"#;
    let said = wrong(systems, entities);
    let expected = [
        "entities.json:2:41: a system of type `push` takes no `source` (leave it out)",
        "systems.json:1:47: a system of type `push` takes no `connection` (leave it out)",
    ];
    assert_eq!(said, expected);
}

#[test]
fn of_very_many_errors_the_first_are_shown_and_the_rest_are_counted() {
    let entity = r#"{"system": "shop", "name": "Orders"}"#;
    let entities = format!("{{\"entities\": [{}]}}", [entity; 300].join(","));
    let said = wrong(SYSTEMS, &entities);
    assert_eq!(said.len(), 201);
    assert!(said[200].contains(" more problems"), "{}", said[200]);
}

#[test]
fn what_a_connector_says_of_its_part_is_told_at_that_part() {
    let entities = r#"{"entities": [
        {"system": "shop", "name": "good", "source": {"table": "x"}},
        {"system": "shop", "name": "bad", "source": {"tabel": "x"}}]}"#;
    let check = |part: Part<'_>| match part {
        Part::Connection(system) => Err(format!("{} cannot be reached", system.name)),
        Part::Source(kind, entity) => Err(format!("{kind} has no {}", entity.name)),
    };
    let systems = Named { name: "systems.json", text: SYSTEMS };
    let entities = Named { name: "entities.json", text: entities };
    let said = said(&Metadata::parse(systems, entities, &catalog(), &check).unwrap_err());
    assert_eq!(said.len(), 3, "{said:#?}");
    assert_eq!(said[0], "entities.json:2:54: file has no good");
    assert!(
        said[1].contains("`tabel` is not known here"),
        "a part that does not fit is not asked about"
    );
    assert_eq!(said[2], "systems.json:1:61: shop cannot be reached");
}

#[test]
fn triggers_are_checked() {
    one(
        &of_system(r#""triggers": [{"type": "cron", "expression": "61 * * * *"}]"#),
        &["no cron", "*/5"],
    );
    one(
        &of_system(r#""triggers": [{"type": "cron", "expression": "@daily", "timezone": "Mars"}]"#),
        &["no time zone `Mars`"],
    );
    one(
        &of_system(r#""triggers": [{"type": "interval", "seconds": 0}]"#),
        &["too little (at least 1)"],
    );
    one(
        &of_system(r#""triggers": [{"type": "crno"}]"#),
        &["no such `type`", "did you mean `cron`?"],
    );
    one(&of_system(r#""triggers": [{"type": "cron"}]"#), &["`expression` is missing"]);
    for never in ["0 0 31 2 *", "0 12 30 2,2 *", "0 0 31 4,6,9,11 *"] {
        let cron = format!(r#""triggers": [{{"type": "cron", "expression": "{never}"}}]"#);
        one(&of_system(&cron), &["this time never comes", "day of month"]);
    }
    let leap =
        r#"{"type": "cron", "expression": "0 0 29 2 *"}, {"type": "interval", "seconds": 0}"#;
    one(&of_system(&format!(r#""triggers": [{leap}]"#)), &["too little"]);
}

#[test]
fn columns_that_are_named_must_be_declared_and_fit() {
    let columns = r#""columns": [
        {"name": "id", "type": "long"}, {"name": "name", "type": "string"},
        {"name": "tmp", "type": "long", "history": "ignore"}, {"name": "doc", "type": "json"}]"#;
    let of = |members: &str| of_entity(&format!("{columns}, {members}"));
    one(&of(r#""keys": ["idd"]"#), &["no column `idd`", "did you mean `id`?"]);
    one(&of(r#""keys": ["id", "id"]"#), &["`id` is there twice"]);
    one(&of(r#""keys": ["tmp"]"#), &["`tmp` is a key"]);
    one(&of(r#""keys": ["doc"]"#), &["cannot be a key"]);
    one(&of(r#""keys": ["id"], "sequence_by": ["name"]"#), &["cannot order changes", "timestamp"]);
    one(&of(r#""keys": ["id"], "sequence_by": ["nam"]"#), &["no column `nam`"]);
    one(&of(r#""keys": ["id"], "sequence_by": [7]"#), &["text or an object, not a number"]);
    one(&of(r#""keys": ["id"], "sequence_by": [{"carried": "lns"}]"#), &["did you mean `lsn`?"]);
    let carried = |part: &str| of(&format!(r#""keys": ["id"], "sequence_by": [{{{part}}}]"#));
    one(&carried(r#""carried": "timestamp", "unit": "d""#), &["do not count days", "`us`"]);
    one(&carried(r#""carried": "long", "unit": "us""#), &["only a part of type timestamp"]);
    one(&carried(r#""carried": "timestamp", "unit": "min""#), &["`us`"]);
    one(&carried(r#""carried": "timestamp", "unti": "us""#), &["did you mean `unit`?"]);
    one(&of(r#""keys": ["id"], "ignore_null_updates": ["x"]"#), &["no column `x`"]);
    one(&of(r#""keys": ["id"], "ignore_null_updates": ["id"]"#), &["always sent"]);
    one(&of(r#""keys": ["id"], "snapshot": {"scope": ["x"]}"#), &["no column `x`"]);
    one(&of(r#""keys": ["id"], "snapshot": {"max_close_share": 2}"#), &["between 0 and 1"]);
    one(&of(r#""load": "full""#), &["needs keys"]);
}

#[test]
fn only_where_the_order_begins_with_a_time_there_is_an_age() {
    let columns = r#""columns": [{"name": "id", "type": "long"}, {"name": "at", "type": "timestamp"}],
        "keys": ["id"]"#;
    let of = |order: &str, silver: &str| {
        let members =
            format!(r#"{columns}, "sequence_by": [{order}], "layers": {{"silver": {{{silver}}}}}"#);
        let entities =
            format!(r#"{{"entities": [{{"system": "shop", "name": "orders", {members}}}]}}"#);
        parse(SYSTEMS, &entities)
    };
    let both = r#""late_horizon": "30d", "history_retention": "365d""#;
    for order in ["", r#""at""#, r#""at", "id""#, r#"{"carried": "timestamp"}"#] {
        let metadata = of(order, both).unwrap();
        let silver = &metadata.entities[0].layers.silver;
        assert_eq!(silver.late_horizon.unwrap().duration().as_secs(), 30 * 86_400);
        assert_eq!(silver.history_retention.unwrap().to_string(), "365d");
    }
    for order in [r#""id""#, r#""id", "at""#, r#"{"carried": "lsn"}"#] {
        let said = said(&of(order, both).unwrap_err());
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(said[0].contains("`late_horizon` needs an order that begins with a time"));
        assert!(said[1].contains("`history_retention` needs an order that begins with a time"));
    }
    let said_of = |silver: &str| said(&of(r#""at""#, silver).unwrap_err());
    one(&said_of(r#""history_retention": "30m""#), &["too late", "at least 1h"]);
    one(&said_of(r#""late_horizon": "a month""#), &["write a number of seconds"]);
}

#[test]
fn columns_that_the_source_tells_are_not_held_against_a_list() {
    let entities = r#"{"entities": [{"system": "shop", "name": "orders", "keys": ["id"], "sequence_by": ["v"]}]}"#;
    assert!(parse(SYSTEMS, entities).is_ok());
}

#[test]
fn columns_themselves_are_checked() {
    let of = |column: &str| {
        of_entity(&format!(
            r#""keys": ["id"], "columns": [{{"name": "id", "type": "long"}}, {column}]"#
        ))
    };
    one(&of(r#"{"name": "_x", "type": "long"}"#), &["alluvium's own"]);
    one(&of(r#"{"name": "a b", "type": "long"}"#), &["no name of a column", "`path`"]);
    one(&of(r#"{"name": "ID", "type": "long"}"#), &["another column `ID`"]);
    one(&of(r#"{"name": "a", "type": "long", "length": 3}"#), &["type string has a `length`"]);
    one(&of(r#"{"name": "a", "type": "long", "scale": 3}"#), &["type decimal has a `scale`"]);
    one(
        &of(r#"{"name": "a", "type": "decimal", "precision": 3, "scale": 4}"#),
        &["(4) than in all (3)"],
    );
    one(&of(r#"{"name": "a", "type": "decimal", "precision": 39}"#), &["too much (at most 38)"]);
    one(&of(r#"{"name": "a", "type": "long", "unit": "ms"}"#), &["timestamp or date has a `unit`"]);
    one(&of(r#"{"name": "a", "type": "date", "unit": "us"}"#), &["count days", "write `d`"]);
    one(&of(r#"{"name": "a", "type": "timestamp", "unit": "d"}"#), &["do not count days", "`us`"]);
    one(&of(r#"{"name": "a", "type": "timestamp", "unit": "min"}"#), &["ms"]);
    one(&of(r#"{"name": "a", "type": "strnig"}"#), &["did you mean `string`?"]);
    one(&of(r#"{"name": "a", "type": "string", "path": "$..a"}"#), &["more than one place"]);
    one(&of(r#"{"name": "a", "type": "string", "path": "a.b"}"#), &["neither", "/properties/mag"]);
    one(&of(r#"{"name": "a", "type": "string", "nulable": true}"#), &["did you mean `nullable`?"]);
}

#[test]
fn a_secret_in_the_open_is_refused_and_not_shown() {
    let systems = r#"{"systems": [{"name": "api", "type": "web", "connection": {"base_url": "https://me:hunter2@x",
        "headers": {"Authorization": "Bearer hunter2"},
        "auth": {"type": "bearer", "token": "hunter2", "old_token": "hunter2", "tokn": "hunter2"}}}]}"#;
    let error = parse(systems, r#"{"entities": []}"#).unwrap_err();
    let lines = said(&error);
    let debug = format!("{error:?} {error}");
    let text = shown(&error);
    assert_eq!(
        lines.iter().filter(|s| s.contains("a secret must not stand in this file")).count(),
        3,
        "{lines:#?}"
    );
    let user = "systems.json:1:72: an address must not hold a user or a password (leave it out";
    assert!(lines.iter().any(|s| s.starts_with(user)), "{lines:#?}");
    assert!(lines.iter().any(|s| s.contains("`tokn` is not known here")), "{lines:#?}");
    assert!(text.contains("\"type\": \"bearer\", \"token\": \"*******\""), "{text}");
    assert!(!text.contains("hunter2") && !debug.contains("hunter2"), "{text}\n{debug}");
}

#[test]
fn a_reference_to_a_secret_is_taken_and_shown_and_a_bad_one_is_refused() {
    let with = |token: &str| {
        let systems = format!(
            r#"{{"systems": [{{"name": "api", "type": "web", "connection": {{"base_url": "x", "auth": {{"type": "bearer", "token": "{token}"}}}}}}]}}"#
        );
        parse(&systems, r#"{"entities": []}"#)
    };
    assert!(with("${env:TOKEN}").is_ok());
    assert!(with("Token ${file:/run/secrets/token}").is_ok());
    let said = said(&with("${vault:x}").unwrap_err());
    assert!(
        said.iter().any(|s| s.contains("no reference to a secret (write ${env:NAME}")),
        "{said:#?}"
    );
}

#[test]
fn a_broken_file_is_told_with_its_place_and_without_its_text() {
    let error =
        parse("{\"systems\": [{\"token\": \"hunter2\"]}", r#"{"entities": []}"#).unwrap_err();
    let text = format!("{error:?} {}", shown(&error));
    assert!(text.contains("systems.json:1:33"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_member_given_twice_is_told() {
    one(
        &wrong(SYSTEMS, r#"{"entities": [], "entities": []}"#),
        &["entities.json:1:18", "`entities` is given twice"],
    );
}

#[test]
fn files_that_are_missing_are_both_told() {
    let folder = tempfile::tempdir().unwrap();
    let systems = folder.path().join("systems.json");
    let entities = folder.path().join("entities.json");
    let load = || Metadata::load_files(&systems, &entities, &catalog(), &|_| Ok(()));
    let said = said(&load().unwrap_err());
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[1].contains("systems.json: there is no such file (`alluvium init`"), "{said:#?}");
    fs::write(&systems, SYSTEMS).unwrap();
    fs::write(&entities, r#"{"entities": []}"#).unwrap();
    assert!(load().is_ok());
}
