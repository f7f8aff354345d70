//! Sources that fail, hang and lie: nothing of it lands, and nothing is lost for it.

use std::process::Command;

use alluvium_tests::TestPlatform;
use alluvium_tests::http::{Answer, Server};
use serde_json::{Value, json};

/// Runs a script in a SQLite database and prints the rows of its last statement as CSV. Python is
/// there wherever these tests run; the `sqlite3` program need not be.
pub(crate) const SQLITE: &str = r#"
import csv, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
statements = sys.argv[2].split(";")
for statement in statements:
    rows = database.execute(statement).fetchall()
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
database.commit()
"#;

/// Fails at once where it fails.
const SETTINGS: &str = "[http]\nenabled = false\n\n[runtime.retry]\nattempts = 1\n";

fn rest(url: &str) -> TestPlatform {
    let systems = json!({"systems": [{
        "name": "feed", "type": "rest", "connection": {"base_url": url, "timeout_seconds": 1}
    }]});
    let entities = json!({"entities": [{
        "system": "feed", "name": "events", "load": "delta",
        "source": {
            "path": "/events", "records": "$.items[*]",
            "incremental": {"column": "changed", "param": "since"}
        },
        "keys": ["id"], "sequence_by": ["changed"],
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "changed", "type": "timestamp", "nullable": false},
            {"name": "place", "type": "string"}
        ]
    }]});
    TestPlatform::new(SETTINGS, &systems, &entities)
}

fn item(id: u64, minute: u64, place: &str) -> Value {
    json!({"id": id, "changed": format!("2026-01-01T00:{minute:02}:00Z"), "place": place})
}

fn items(items: &[Value]) -> Value {
    json!({"items": items})
}

#[test]
fn a_bad_answer_fails_the_run_and_a_good_one_later_brings_everything() {
    let first = items(&[item(1, 1, "Oslo"), item(2, 2, "Bergen")]);
    let later = items(&[item(2, 3, "Voss"), item(3, 4, "Bø"), item(4, 5, "Ås")]);
    let server = Server::new(Answer::json(&first));
    let platform = rest(&server.url());
    platform.run(&["ingest", "feed"]).ok();
    let cursor = "SELECT cursor FROM ledger.cursor";
    let before = platform.query(cursor);
    let html = "<html><body>Sign in</body></html>";
    let cases = [
        ("an error", Answer::Whole(500, "text/plain", "broken".to_owned()), "500"),
        ("silence", Answer::Hang, "within 1 s"),
        ("half an answer", Answer::Half(later.to_string()), ""),
        ("a page for people", Answer::Whole(200, "text/html", html.to_owned()), ""),
        ("a cut body", Answer::json(&later.to_string()[..40]), ""),
        ("an error told with 200", Answer::json(json!({"error": "no"})), "items"),
    ];
    for (what, answer, told) in cases {
        server.answer(answer);
        let asked = server.asked().len();
        let finished = platform.run(&["ingest", "feed", "-o", "ndjson"]).ended(1);
        assert!(server.asked().len() > asked, "{what}: the source was not asked");
        let rows = finished.rows();
        let reason = rows[0]["reason"].as_str().unwrap_or_default();
        assert!(reason.len() > 10 && reason.contains(told), "{what}: {reason}");
        assert_eq!(platform.query(cursor), before, "{what}: the cursor has moved");
        assert_eq!(platform.number("SELECT count(*) FROM raw.feed.events"), 2, "{what}");
    }
    server.answer(Answer::json(&later));
    platform.run(&["ingest", "feed"]).ok();
    let sql = "SELECT id, place FROM silver.feed.events WHERE _is_current ORDER BY id";
    let expected = [(1, "Oslo"), (2, "Voss"), (3, "Bø"), (4, "Ås")];
    let expected = expected.map(|(id, place)| json!({"id": id, "place": place}));
    assert_eq!(platform.query(sql), expected);
    let last = server.asked().pop().unwrap();
    assert!(last.contains("since="), "the run did not go on where the last good one was: {last}");
    platform.assert_sound();
}

fn shop(entities: &Value) -> TestPlatform {
    let systems = json!({"systems": [
        {"name": "shop", "type": "sqlite", "connection": {"path": "source.db"}}
    ]});
    TestPlatform::new(SETTINGS, &systems, entities)
}

fn sqlite(platform: &TestPlatform, script: &str) {
    let path = platform.folder().join("source.db");
    let output =
        Command::new("python3").arg("-c").arg(SQLITE).arg(path).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A table that is read whole, read once.
fn people() -> TestPlatform {
    let platform = shop(&json!({"entities": [
        {"system": "shop", "name": "people", "load": "full", "source": {"table": "people"}}
    ]}));
    sqlite(
        &platform,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
        INSERT INTO people VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Åse')",
    );
    platform.run(&["ingest", "shop"]).ok();
    platform
}

#[test]
fn a_full_load_versions_what_changed_and_leaves_what_did_not() {
    let platform = people();
    sqlite(
        &platform,
        "UPDATE people SET name = 'Ada L.' WHERE id = 1; INSERT INTO people VALUES (4, NULL)",
    );
    platform.run(&["ingest", "shop.people"]).ok();
    platform.run(&["ingest", "shop"]).ok();
    let sql =
        "SELECT id, name, _is_current AS open FROM silver.shop.people ORDER BY id, _valid_from";
    let expected = [
        json!({"id": 1, "name": "Ada", "open": false}),
        json!({"id": 1, "name": "Ada L.", "open": true}),
        json!({"id": 2, "name": "Grace", "open": true}),
        json!({"id": 3, "name": "Åse", "open": true}),
        json!({"id": 4, "name": null, "open": true}),
    ];
    assert_eq!(platform.query(sql), expected);
    platform.assert_sound();
}

#[test]
fn a_delta_load_reads_what_changed_and_reaches_back_by_its_overlap() {
    let platform = shop(&json!({"entities": [{
        "system": "shop", "name": "orders", "load": "delta",
        "source": {"table": "orders", "cursor_column": "updated_at", "overlap": 60},
        "keys": ["id"], "sequence_by": ["updated_at"],
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "status", "type": "string"},
            {"name": "total", "type": "decimal", "precision": 12, "scale": 2},
            {"name": "updated_at", "type": "timestamp", "nullable": false}
        ]
    }]}));
    sqlite(&platform, "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total DECIMAL(12, 2), updated_at TEXT);
        INSERT INTO orders VALUES (1, 'open', 10.5, '2026-01-01T10:00:00Z'), (2, 'open', 7, '2026-01-01T10:05:00Z')");
    platform.run(&["ingest", "shop"]).ok();
    // A row that was committed late, within the overlap; one behind it; and changes since.
    sqlite(
        &platform,
        "INSERT INTO orders VALUES (3, 'late', 1, '2026-01-01T10:04:30Z');
        INSERT INTO orders VALUES (4, 'missed', 1, '2026-01-01T10:03:00Z');
        UPDATE orders SET status = 'paid', updated_at = '2026-01-01T10:07:00Z' WHERE id = 1",
    );
    let again = platform.rows(&["ingest", "shop"]);
    assert_eq!(again[0]["polled"], 3, "the change, the late row, and what the overlap shows again");
    let sql = "SELECT id, status, total, _is_current AS open FROM silver.shop.orders ORDER BY id, _valid_from";
    let expected = [
        json!({"id": 1, "status": "open", "total": "10.50", "open": false}),
        json!({"id": 1, "status": "paid", "total": "10.50", "open": true}),
        json!({"id": 2, "status": "open", "total": "7.00", "open": true}),
        json!({"id": 3, "status": "late", "total": "1.00", "open": true}),
    ];
    assert_eq!(platform.query(sql), expected);
    let duplicates =
        platform.number("SELECT duplicate FROM ledger.layer_total WHERE layer = 'silver'");
    assert_eq!(duplicates, 1, "what was read again is counted as such");
    platform.assert_sound();
}
