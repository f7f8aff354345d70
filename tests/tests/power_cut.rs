//! What a power cut would leave: nothing counts before all that it names is on the disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use alluvium_testkit::syscalls::{Call, NAMING, read, traced};
use alluvium_tests::platform::MAP;
use alluvium_tests::{TestPlatform, Workload};
use serde_json::Value;

/// What is on the disk for certain.
#[derive(Default)]
struct Disk {
    /// Files whose bytes are.
    bytes: HashSet<PathBuf>,
    /// Names that are, with what they name.
    names: HashSet<PathBuf>,
    /// Names given since their folder was last synced.
    given: HashSet<PathBuf>,
}

impl Disk {
    fn synced(&mut self, path: &Path) {
        if path.is_dir() {
            let here = |name: &PathBuf| name.parent() == Some(path);
            let named: Vec<_> = self.given.extract_if(|name| here(name)).collect();
            self.names.extend(named);
            // Files that were made under their own name.
            self.names.extend(self.bytes.iter().filter(|name| here(name)).cloned());
        } else {
            self.bytes.insert(path.to_owned());
        }
    }

    #[track_caller]
    fn named(&mut self, from: &Path, to: &Path) {
        assert!(self.bytes.contains(from), "{} gets a name before its bytes", to.display());
        self.bytes.insert(to.to_owned());
        self.given.insert(to.to_owned());
    }

    #[track_caller]
    fn must_have(&self, file: &Path, because: &Path) {
        let (bytes, name) = (self.bytes.contains(file), self.names.contains(file));
        let (file, because) = (file.display(), because.display());
        assert!(bytes && name, "{because} names {file}: bytes {bytes}, name {name}");
    }
}

/// The files that a log entry counts on.
fn counted_on(entry: &Path) -> Vec<PathBuf> {
    let table = entry.parent().unwrap().parent().unwrap();
    let text = std::fs::read_to_string(entry).unwrap();
    let mut files = Vec::new();
    for action in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if let Some(path) = action["add"]["path"].as_str() {
            files.push(table.join(path));
        }
        if let Some(vector) = action["add"]["deletionVector"]["pathOrInlineDv"].as_str() {
            let (folder, id) = vector.split_at(vector.len() - 20);
            let id = hex::encode(z85::decode(id).unwrap());
            let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
            files.push(table.join(folder).join(format!("deletion_vector_{}.bin", parts.join("-"))));
        }
        if action["txn"]["appId"] == "alluvium/hidden" {
            let name = action["txn"]["version"].as_i64().unwrap();
            files.push(table.join(format!("_alluvium/hidden/{name:016x}.ndjson.zst")));
        }
    }
    files
}

fn is_log_entry(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("_delta_log"))
        && path.extension().is_some_and(|kind| kind == "json")
}

#[test]
fn a_commit_counts_only_on_what_is_on_the_disk_and_is_there_before_anything_is_acknowledged() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(7);
    // The second file has updates, deletes and repetitions: deletion vectors and a side file.
    let (first, changes) = (workload.inserts(2_000), workload.changes(2_000));
    let late: String = changes.lines().rev().step_by(3).map(|line| format!("{line}\n")).collect();
    let (mut vectors, mut sides, mut entries, mut objects) = (0, 0, 0, 0);
    let mut disk = Disk::default();
    for (name, lines) in [("first", first), ("changes", changes), ("late", late)] {
        let file = platform.write(name, &lines);
        let args = ["publish", "shop.customers", file.to_str().unwrap(), "--map", MAP, "--wait"];
        let trace = platform.folder().join("trace.txt");
        let command = platform.command(&args);
        let Some(mut command) = traced(&command, NAMING, &trace) else { return };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for call in read(&std::fs::read_to_string(&trace).unwrap()) {
            match call {
                Call::Synced(path) => disk.synced(&path),
                Call::Naming { from, to }
                    if to.starts_with(platform.folder().join("data/lake")) =>
                {
                    if is_log_entry(&to) {
                        for file in counted_on(&to) {
                            vectors += usize::from(file.extension().is_some_and(|e| e == "bin"));
                            sides +=
                                usize::from(file.components().any(|c| c.as_os_str() == "hidden"));
                            disk.must_have(&file, &to);
                        }
                        entries += 1;
                    }
                    objects += usize::from(to.components().any(|c| c.as_os_str() == "raw"));
                    disk.named(&from, &to);
                }
                _ => {}
            }
        }
        // The command has said that it is done: nothing waits for a sync any more.
        assert_eq!(disk.given, HashSet::new(), "acknowledged, and not yet on the disk");
    }
    assert!(entries > 6 && objects >= 3, "{entries} log entries, {objects} raw objects");
    assert!(vectors > 0 && sides > 0, "{vectors} deletion vectors, {sides} side files");
}
