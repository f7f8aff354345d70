//! How commands end, and what they say then: to people, and to scripts.

use alluvium_testkit::free_port;
use alluvium_tests::TestPlatform;
use alluvium_tests::platform::QUIET;
use serde_json::{Value, json};

/// A system that is published to, with an entity that orders its changes by arrival.
fn pushed() -> TestPlatform {
    let systems = json!({"systems": [{"name": "app", "type": "push"}]});
    TestPlatform::new(QUIET, &systems, &notes())
}

fn notes() -> Value {
    json!({"entities": [{
        "system": "app", "name": "notes", "keys": ["id"],
        "columns": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]
    }]})
}

fn publish(platform: &TestPlatform, lines: &str, args: &[&str]) -> alluvium_tests::Finished {
    let file = platform.write("lines.ndjson", lines);
    let mut all = vec!["publish", "app.notes", file.to_str().unwrap(), "--wait"];
    all.extend(args);
    platform.run(&all)
}

#[test]
fn validate_tells_all_that_is_wrong_at_once() {
    let platform = TestPlatform::empty();
    platform.write("alluvium.toml", "[http]\nlisten = \"nowhere\"\n");
    platform.write(
        "systems.json",
        r#"{"systems": [
            {"name": "feed", "type": "rest",
             "triggers": [{"type": "cron", "expression": "0 0 31 2 *"}],
             "connection": {"base_url": "ftp://example.com",
                "headers": {"Authorization": "Bearer canary"},
                "auth": {"type": "bearer", "token": "${env:FEED_TOKEN}"}}},
            {"name": "api", "type": "rest",
             "connection": {"base_url": "https://me:canary@example.com"}},
            {"name": "app", "type": "push"}]}"#,
    );
    platform.write(
        "entities.json",
        r#"{"entities": [
            {"system": "feed", "name": "events", "keys": ["id"],
             "source": {"path": "/", "records": "$.["}},
            {"system": "app", "name": "notes", "keys": ["id"],
             "source": {"path": "/"}}]}"#,
    );
    let finished = platform.run(&["validate", "-o", "ndjson"]).ended(2);
    let told: Vec<String> = finished
        .rows()
        .iter()
        .map(|row| {
            let file = row["file"].as_str().unwrap().rsplit('/').next().unwrap();
            format!("{file}:{}:{} {}", row["line"], row["column"], row["problem"])
        })
        .collect();
    let expected = [
        ("alluvium.toml:2:10", "http.listen"),
        ("entities.json:3:49", "no JSONPath"),
        ("entities.json:5:14", "a system of type `push` takes no `source`"),
        ("systems.json:3:58", "never comes"),
        ("systems.json:4:41", "http and https"),
        ("systems.json:5:46", "a secret must not stand"),
        ("systems.json:6:53", "neither FEED_TOKEN nor FEED_TOKEN_FILE"),
        ("systems.json:8:41", "a user or a password"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (place, problem)) in told.iter().zip(expected) {
        assert!(told.starts_with(place) && told.contains(problem), "{told}\n{place} {problem}");
    }
    assert!(!finished.stdout.contains("canary"), "{}", finished.stdout);
}

#[test]
fn what_is_configured_or_asked_wrongly_ends_with_2() {
    let systems = json!({"systems": [
        {"name": "feed", "type": "rest", "connection": {
            "base_url": "http://127.0.0.1:9",
            "auth": {"type": "bearer", "token": "${env:FEED_TOKEN}"}}},
        {"name": "shop", "type": "sqlite", "connection": {"path": "shop.db"}},
        {"name": "app", "type": "push"}
    ]});
    let mut entities = notes();
    let more = [
        json!({"system": "feed", "name": "events", "keys": ["id"], "source": {"path": "/"}}),
        json!({"system": "shop", "name": "orders", "source": {"table": "orders"}}),
    ];
    entities["entities"].as_array_mut().unwrap().extend(more);
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    platform.write("shop.db", "");
    let file = platform.write("rows.ndjson", "{\"id\":1}\n");
    let file = file.to_str().unwrap();
    let unset = "${env:FEED_TOKEN}: the environment has neither FEED_TOKEN nor FEED_TOKEN_FILE";
    for (args, told) in [
        (&["run"][..], &["systems.json:1:", unset][..]),
        (&["ingest", "feed"], &["systems.json:1:", unset]),
        (&["publish", "feed.events", file, "--rows"], &["systems.json:1:", unset]),
        (&["ingest", "nobody"], &["no system `nobody`"]),
        (&["ingest", "app.nothing"], &["no entity `app.nothing`"]),
        (&["publish", "app.nothing", file, "--rows"], &["no entity `app.nothing`"]),
        (&["ingest", "shop"], &["orders"]),
        (&["query", "selec"], &["selec"]),
        (&["query", "SELECT * FROM silver.a.b"], &["silver.a.b"]),
        (&["--set", "log.filter=a=b=c", "query", "SELECT 1"], &["log.filter"]),
    ] {
        platform.run(args).ended(2).told(told);
    }
    // What another system lacks keeps nobody from publishing and looking.
    platform.run(&["publish", "app.notes", file, "--rows", "--wait"]).ok();
    platform.run(&["verify"]).ok();
    platform.run(&["query", "SELECT 1 / 0"]).ended(1);
}

#[test]
fn a_run_that_ends_before_it_comes_to_an_entity_has_a_row_all_the_same() {
    let systems = json!({"systems": [{"name": "feed", "type": "rest",
        "connection": {"base_url": format!("http://127.0.0.1:{}", free_port())}},
        {"name": "shop", "type": "sqlite", "connection": {"path": "nowhere.db"}}]});
    let entities = json!({"entities": [
        {"system": "shop", "name": "orders", "source": {"table": "orders"}}]});
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    for (target, entity) in [("shop", Value::Null), ("shop.orders", json!("shop.orders"))] {
        let finished = platform.run(&["ingest", target, "-o", "ndjson"]).ended(2);
        let rows = finished.rows();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!((&rows[0]["status"], &rows[0]["entity"]), (&json!("failed"), &entity));
        assert!(rows[0]["reason"].as_str().unwrap().contains("nowhere.db"), "{rows:#?}");
        let run = rows[0]["run"].as_str().unwrap();
        let sql = format!("SELECT status FROM ledger.system_run WHERE run_id = '{run}'");
        assert_eq!(platform.query(&sql), [json!({"status": "failed"})]);
    }
}

#[test]
fn an_answer_that_fails_before_its_first_row_leaves_nothing_on_stdout() {
    let platform = TestPlatform::empty();
    for format in ["json", "ndjson", "csv", "table"] {
        let finished = platform.run(&["query", "SELECT 1 / 0", "-o", format]).ended(1);
        assert_eq!(finished.stdout, "", "{format}");
    }
    // So late that rows come before it, however many threads share the work.
    let sql = "SELECT 10 / (900000 - value) AS v FROM generate_series(0, 900000) AS t(value)";
    let finished = platform.run(&["query", sql, "-o", "json"]).ended(1);
    assert!(finished.stdout.starts_with("[\n{\"v\":0}"), "rows come as they are computed");
    assert!(
        serde_json::from_str::<Value>(&finished.stdout).is_err(),
        "it reads as if it were whole"
    );
    finished.told(&["the answer is not whole, it broke off"]);
}

#[test]
fn a_line_that_is_too_long_is_told_by_its_number_and_those_before_it_land() {
    let platform = pushed();
    let long = "x".repeat(9 << 20);
    let lines =
        format!("{{\"id\":1}}\n\n{{\"id\":2}}\n{{\"id\":3,\"text\":\"{long}\"}}\n{{\"id\":4}}\n");
    let finished = publish(&platform, &lines, &["--rows", "-o", "ndjson"]).ended(1);
    assert_eq!(finished.rows()[0]["status"], "failed");
    finished.told(&["lines.ndjson:4: this line has 9437202 bytes", "8388608 at most"]);
    let mended = lines.replace(&long, "short");
    publish(&platform, &mended, &["--rows"]).ok();
    let sql = "SELECT id FROM silver.app.notes WHERE _is_current ORDER BY id";
    assert_eq!(platform.query(sql), [1, 2, 3, 4].map(|id| json!({"id": id})));
    platform.assert_sound();
}

#[test]
fn a_sequence_that_nobody_keeps_is_warned_of_once() {
    let change = |id: u32, sequence: &str| {
        format!("{{\"op\":\"c\",\"after\":{{\"id\":{id}}},\"source\":{{{sequence}}}}}\n")
    };
    let carried = change(1, "\"sequence\":[7]") + &change(2, "\"sequence\":[8]");
    let warned = "carry `source.sequence`, and `app.notes` orders its changes by arrival";
    let platform = pushed();
    let finished = publish(&platform, &carried, &["-q"]).ok().told(&[warned, "\"sequence_by\""]);
    assert_eq!(finished.stderr.matches("warning").count(), 1, "{}", finished.stderr);
    let silent = publish(&platform, &change(3, ""), &["-q"]).ok();
    assert_eq!(silent.stderr, "");
    // Where the entity is ordered by it, nothing is to be said.
    let mut ordered = notes();
    ordered["entities"][0]["sequence_by"] = json!([{"carried": "long"}]);
    let platform = pushed();
    platform.write("entities.json", &ordered.to_string());
    let silent = publish(&platform, &change(4, "\"sequence\":[9]"), &["-q"]).ok();
    assert_eq!(silent.stderr, "");
}

#[test]
fn the_demo_is_one_json_document() {
    let platform = TestPlatform::empty();
    let csv = platform.run(&["demo", "-o", "csv"]).ended(2);
    csv.told(&["json or ndjson"]);
    let folder = platform.folder().join("demo");
    let shown = platform.run(&["demo", "-q", "-o", "json", "--folder", folder.to_str().unwrap()]);
    let document: Value = serde_json::from_str(&shown.ok().stdout).unwrap();
    for section in ["landed", "versions", "checks"] {
        let rows = document[section].as_array().unwrap();
        assert!(!rows.is_empty() && rows.iter().all(Value::is_object), "{section}");
    }
    assert!(document["checks"].as_array().unwrap().iter().all(|check| check["holds"] == true));
}

#[test]
fn metadata_that_did_not_change_have_one_version() {
    let systems = json!({"systems": [
        {"name": "shop", "type": "sqlite", "connection": {"path": "shop.db", "tables": {}}},
        {"name": "app", "type": "push"}]});
    let mut entities = notes();
    let declared = json!({"system": "shop", "name": "orders", "source": {"table": "orders"}});
    entities["entities"].as_array_mut().unwrap().push(declared);
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    let script = "import sqlite3\nd = sqlite3.connect('shop.db')\n\
        d.execute('CREATE TABLE orders (id INTEGER PRIMARY KEY)')\n\
        d.execute('CREATE TABLE people (id INTEGER PRIMARY KEY)')";
    let mut python = std::process::Command::new("python3");
    assert!(python.args(["-c", script]).current_dir(platform.folder()).status().unwrap().success());
    for _ in 0..3 {
        platform.run(&["ingest", "shop"]).ok();
        publish(&platform, "{\"id\":1}\n", &["--rows"]).ok();
    }
    platform.run(&["ingest", "shop"]).ok();
    let sql = "SELECT name, count(*) AS n FROM ledger.metadata_history GROUP BY name ORDER BY name";
    let names = ["app", "app.notes", "shop", "shop.orders", "shop.people"];
    assert_eq!(platform.query(sql), names.map(|name| json!({"name": name, "n": 1})));
}

#[test]
fn the_version_tells_the_revision_of_the_sources() {
    let platform = TestPlatform::empty();
    let told = platform.run(&["--version"]).ok().stdout;
    let (version, revision) = told.trim().split_once(" (").unwrap();
    assert!(version.starts_with("alluvium "), "{told}");
    let revision = revision.strip_suffix(')').unwrap();
    let digits = revision.len() == 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(digits || revision == "unknown", "{told}");
}
