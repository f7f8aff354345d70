//! A full disk: a clear stop, and nothing acknowledged that is not durable. Once there is room,
//! everything goes on where it was.

use std::path::Path;

use alluvium_tests::platform::MAP;
use alluvium_tests::{Finished, SmallDisk, TestPlatform, Workload};

/// Whatever happens, it ends within so many seconds.
const PATIENCE: u64 = 60;
const ROWS: u64 = 20_000;
const CHANGES: u64 = 10_000;

/// A project of which a part stands on a small disk, and what is published into it.
struct Story {
    platform: TestPlatform,
    disk: SmallDisk,
    workload: Workload,
}

impl Story {
    fn new(settings: &str, disk: SmallDisk) -> Self {
        let platform = TestPlatform::shop();
        let retry = "[runtime.retry]\nattempts = 2\ninitial = \"50ms\"\n";
        let settings = settings.replace("{disk}", &disk.path().display().to_string());
        platform.write("alluvium.toml", &format!("[http]\nenabled = false\n{retry}{settings}"));
        let mut workload = Workload::new(17);
        let lines = workload.inserts(ROWS) + &workload.changes(CHANGES);
        platform.write("all.ndjson", &lines);
        Self { platform, disk, workload }
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.platform.run_on(&self.disk, args, PATIENCE)
    }

    fn publish(&self, file: &str) -> Finished {
        self.run(&["publish", "shop.customers", file, "--map", MAP, "--wait", "-o", "ndjson"])
    }

    fn number(&self, sql: &str) -> u64 {
        let rows = self.run(&["query", sql, "-o", "ndjson"]).ok().rows();
        rows[0].as_object().unwrap().values().next().unwrap().as_u64().unwrap()
    }

    /// There is room again: the same file is gone on with, and everything is there once.
    fn goes_on(&self) -> Finished {
        self.disk.make_room();
        let finished = self.publish("all.ndjson").ok();
        for layer in ["raw", "bronze"] {
            let records = self.number(&format!("SELECT count(*) FROM {layer}.shop.customers"));
            assert_eq!(records, ROWS + CHANGES, "{layer}");
        }
        let versions = self.number("SELECT count(*) FROM silver.shop.customers");
        assert_eq!(versions, self.workload.version_count());
        let open = self.number("SELECT count(*) FROM silver.shop.customers WHERE _is_current");
        assert_eq!(open, self.workload.open());
        let verified = self.run(&["verify", "-o", "ndjson"]);
        let wrong: Vec<_> =
            verified.rows().into_iter().filter(|row| row["holds"] != true).collect();
        assert!(wrong.is_empty() && verified.code == 0, "{wrong:#?}\n{}", verified.stderr);
        finished
    }
}

const BUS: &str = "[bus.embedded]\npath = \"{disk}/bus\"\n";

fn the_bus_is_full(disk: SmallDisk) {
    let story = Story::new(BUS, disk);
    let stopped = story.publish("all.ndjson").ended(1);
    stopped.told(&["the bus has no room left", "No space left on device"]);
    let acknowledged = story.number("SELECT published FROM ledger.system_run");
    assert!(acknowledged > 0 && acknowledged < ROWS + CHANGES, "{acknowledged}");
    story.disk.make_room();
    // What was published from a file has no cursor that its source could go on from, so that nothing
    // is landed but what was acknowledged before.
    story.run(&["ingest", "shop"]).ended(2);
    for layer in ["raw", "bronze"] {
        let records = story.number(&format!("SELECT count(*) FROM {layer}.shop.customers"));
        assert_eq!(records, acknowledged, "{layer}");
    }
    story.goes_on().told(&[&format!("going on after {acknowledged} records")]);
}

#[test]
fn a_full_bus_refuses_what_does_not_fit_and_keeps_what_it_acknowledged() {
    if let Some(disk) = SmallDisk::new(1_700) {
        the_bus_is_full(disk);
    }
}

#[test]
fn a_bus_that_never_had_room_acknowledged_nothing() {
    let Some(disk) = SmallDisk::new(200) else { return };
    let story = Story::new(BUS, disk);
    story.publish("all.ndjson").ended(1).told(&["the bus has no room left"]);
    assert_eq!(story.number("SELECT published FROM ledger.system_run"), 0);
    story.goes_on();
}

#[test]
fn a_full_lake_stops_its_layers_and_what_is_published_waits_on_the_bus() {
    for kib in [100, 700, 2_500] {
        let Some(disk) = SmallDisk::new(kib) else { return };
        let story = Story::new("[lake]\npath = \"{disk}/lake\"\n", disk);
        let stopped = story.publish("all.ndjson").ended(1);
        stopped.told(&["the lake has no room left", "free disk space, then start again"]);
        story.goes_on();
    }
}

#[test]
fn a_full_disk_beneath_the_key_index_stops_silver_until_there_is_room() {
    let Some(disk) = SmallDisk::new(400) else { return };
    let story = Story::new("[layers]\nbatch_records = 2000\n", disk);
    let data = story.platform.folder().join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(story.disk.path(), data.join("index")).unwrap();
    story.publish("all.ndjson").ended(1).told(&["silver of `shop.customers`", "key index"]);
    story.goes_on();
}

#[test]
fn a_full_ledger_fails_the_run_and_hears_of_everything_once_there_is_room() {
    for left in [0, 40, 64] {
        let Some(disk) = SmallDisk::new(2_000) else { return };
        let story = Story::new("[ledger]\npath = \"{disk}/ledger.db\"\n", disk);
        story.platform.write("none.ndjson", "");
        story.publish("none.ndjson").ok();
        story.disk.fill(left);
        story.publish("all.ndjson").ended(1).told(&["the ledger has no room left"]);
        story.goes_on();
    }
}

#[test]
fn who_is_not_root_gets_a_small_disk_too() {
    // Somewhere users may have no namespaces; there, the others tell whether that matters.
    let Some(disk) = SmallDisk::in_namespace(1_700) else {
        eprintln!("SKIPPED: users may have no namespaces here");
        return;
    };
    assert!(!Path::new(disk.path()).join("bus").exists());
    the_bus_is_full(disk);
}
