//! Engines that are not ours see the same rows in silver as we do.

use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_tests::platform::QUIET;
use alluvium_tests::{TestPlatform, Workload, required, until};
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

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("readers")
}

/// All engines see the rows that we see, and as many versions as there must be.
fn assert_all_see_the_same(platform: &TestPlatform, versions: u64, when: &str) {
    let scripts = scripts();
    let Some(python) = python(&scripts) else { return };
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
    assert!(compared.status.success(), "{when}: {text}\n{told}");
    let outcome: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outcome["same"], true, "{when}: {outcome}");
    for reader in ["polars", "duckdb", "deltalake", "alluvium"] {
        assert_eq!(outcome["rows"][reader], versions, "{when}: {reader}");
    }
}

/// Changes and upkeep in turns, until files were put together and the first log entry is gone: the
/// log shrinks behind the last checkpoint but one.
fn maintain(platform: &TestPlatform, workload: &mut Workload) {
    let log = platform.table("silver/shop/customers").join("_delta_log");
    let tells_of_a_compaction = || {
        let entries = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
        let mut entries = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
        entries.any(|path| std::fs::read_to_string(path).unwrap().contains("OPTIMIZE"))
    };
    let mut was_compacted = false;
    until("a compaction, and the end of the first log entry", 120, || {
        let changes = platform.write("changes.ndjson", &workload.changes(100));
        platform.publish(&changes).ok();
        platform.run(&["maintain", "shop.customers"]).ok();
        was_compacted |= tells_of_a_compaction();
        let is_cleaned = !log.join("00000000000000000000.json").exists();
        (was_compacted && is_cleaned).then_some(())
    });
    assert!(log.join("_last_checkpoint").exists());
}

#[test]
fn polars_and_duckdb_read_silver_row_for_row_as_we_do() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(11);
    for file in workload.files(&platform, 3_000, 3, 1_500) {
        platform.publish(&file).ok();
    }
    assert_all_see_the_same(&platform, workload.version_count(), "inserts and deletion vectors");

    let upkeep = "[maintenance]\nfiles_merged = 2\ndeleted_percent = 5\ncheckpoint_commits = 1\n\
                  log_retention = \"1s\"\ngarbage_age = \"1s\"\n";
    platform.write("alluvium.toml", &format!("{QUIET}{upkeep}"));
    maintain(&platform, &mut workload);
    let when = "compaction, checkpoints and cleanup";
    assert_all_see_the_same(&platform, workload.version_count(), when);

    let more = platform.write("more.ndjson", &workload.changes(1_500));
    platform.publish(&more).ok();
    assert_all_see_the_same(&platform, workload.version_count(), "changes after that");
    platform.assert_sound();
}

/// What came of something that engines which are not ours did to silver.
fn done_by_others(platform: &TestPlatform, what: &str) -> Option<Value> {
    let told = Command::new(python(&scripts())?)
        .arg(scripts().join("upkeep_delta.py"))
        .arg(what)
        .arg(platform.table("silver/shop/customers"))
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    Some(serde_json::from_slice(&told.stdout).unwrap())
}

/// OPTIMIZE, and a VACUUM that removes what has left the table.
#[test]
fn upkeep_by_delta_rs_takes_nothing_that_silver_needs_and_duckdb_alters_nothing() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(12);
    for file in workload.files(&platform, 2_000, 2, 500) {
        platform.publish(&file).ok();
    }
    for round in 1..=2 {
        let Some(told) = done_by_others(&platform, "upkeep") else { return };
        for done in ["optimize", "order", "vacuum_after"] {
            assert!(told[done].as_u64() > Some(0), "{done}: {told}");
        }
        assert!(told["delete_refused"] == true && told["update_refused"] == true, "{told}");
        let when = format!("round {round} of upkeep by others");
        assert_all_see_the_same(&platform, workload.version_count(), &when);
        let more = platform.write("more.ndjson", &workload.changes(500));
        platform.publish(&more).ok();
        let when = format!("changes after round {round}");
        assert_all_see_the_same(&platform, workload.version_count(), &when);
    }
    platform.run(&["verify", "--rebuild", "shop.customers"]).ok();
}

/// Releases of delta-rs up to 1.6.6 take vectors that are in use for orphans.
#[test]
fn vectors_that_a_full_vacuum_of_delta_rs_removes_are_missed_and_made_anew_by_a_rebuild() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(13);
    for file in workload.files(&platform, 2_000, 2, 500) {
        platform.publish(&file).ok();
    }
    let Some(told) = done_by_others(&platform, "vacuum-full") else { return };
    if told["vectors"] == 0 {
        let when = "a full VACUUM by a release that knows vectors";
        return assert_all_see_the_same(&platform, workload.version_count(), when);
    }
    let more = platform.write("more.ndjson", &workload.changes(500));
    let rebuild = "`alluvium rebuild silver shop.customers`";
    platform.publish(&more).ended(1).told(&["deletion_vector_", "is not there", rebuild]);
    platform.run(&["rebuild", "silver", "shop.customers"]).ok();
    let more = platform.write("more.ndjson", &workload.changes(500));
    platform.publish(&more).ok();
    assert_all_see_the_same(&platform, workload.version_count(), "a rebuild");
    platform.run(&["verify", "--rebuild", "shop.customers"]).ok();
}
