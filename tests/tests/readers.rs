//! Engines that are not ours see the same rows in silver as we do.

use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_tests::{TestPlatform, Workload, required};
use serde_json::Value;

/// The Python that has the engines. Where it is not there yet it is made, if tests may not be
/// skipped; else `None`.
pub(crate) fn python(scripts: &Path) -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let tools = std::env::var_os("ALLUVIUM_TOOLS")
        .map_or_else(|| home.join(".cache/alluvium/tools"), PathBuf::from);
    let python = tools.join("readers/bin/python");
    if tools.join("readers/installed.txt").exists() {
        return Some(python);
    }
    if !required() {
        eprintln!("SKIPPED: {} is not there; `make readers` makes it", python.display());
        return None;
    }
    let made = Command::new(scripts.join("setup.sh")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
}

#[test]
fn polars_and_duckdb_read_silver_row_for_row_as_we_do() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers");
    let Some(python) = python(&scripts) else { return };
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(11);
    for file in workload.files(&platform, 3_000, 3, 1_500) {
        platform.publish(&file).ok();
    }
    let ours = platform.run(&["query", "SELECT * FROM silver.shop.customers", "-o", "ndjson"]).ok();
    let ours = platform.write("ours.ndjson", &ours.stdout);
    let compared = Command::new(python)
        .arg(scripts.join("read_delta.py"))
        .arg("compare")
        .arg(platform.table("silver/shop/customers"))
        .arg(ours)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&compared.stdout);
    let told = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{text}\n{told}");
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outcome["same"], true, "{outcome}");
    for reader in ["polars", "duckdb", "deltalake", "alluvium"] {
        assert_eq!(outcome["rows"][reader], workload.version_count(), "{reader}");
    }
}
