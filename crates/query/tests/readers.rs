//! Other engines see the same rows.

use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_query::output::Format;
use serde_json::Value;

use crate::fixture::{Fixture, orders, text};

/// The interpreter with the engines in it. Without it the test is skipped, and says so, unless
/// everything is required.
fn python(readers: &Path) -> Option<PathBuf> {
    let required = std::env::var_os("ALLUVIUM_TEST_REQUIRE").is_some_and(|all| all == "all");
    let tools = std::env::var_os("ALLUVIUM_TOOLS").map(PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/alluvium/tools"))
    })?;
    let python = tools.join("readers/bin/python");
    if !required && !python.exists() {
        eprintln!("skipped: {} is not there; run tests/readers/setup.sh", python.display());
        return None;
    }
    assert!(Command::new(readers.join("setup.sh")).status().unwrap().success());
    Some(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn polars_duckdb_and_delta_rs_see_the_same_rows() {
    let readers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/readers");
    let Some(python) = python(&readers) else { return };
    let fixture = Fixture::with_orders().await;
    let rows = fixture.query().sql("SELECT * FROM silver.shop.orders").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours.ndjson");
    std::fs::write(&ours, text(rows, Format::Ndjson).await.unwrap()).unwrap();
    let table =
        fixture.lake.url_of(&alluvium_lake::path::silver(&orders())).to_file_path().unwrap();
    let compared = Command::new(python)
        .arg(readers.join("read_delta.py"))
        .arg("compare")
        .args([&table, &ours])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout);
    let said: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&compared.stderr)));
    assert_eq!(said["same"], true, "{said:#}");
    assert_eq!(said["rows"]["alluvium"], 110);
    assert_eq!(said["rows"]["duckdb"], 110);
}
