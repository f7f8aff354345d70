//! What a power cut would leave of the embedded bus: what was acknowledged had reached the disk,
//! and so had the names of all that holds it. A kill cannot show that: it leaves the page cache.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use alluvium_testkit::signal;

use crate::kill::{MESSAGE_BYTES, MESSAGES, child};
use alluvium_testkit::syscalls::{Call, WRITING, read, traced};

/// How many pages are published into the second journal.
const PAGES_AFTER_ROTATION: usize = 20;
/// A journal is full long before.
const MOST_PAGES: usize = 3000;

/// What is not yet on the disk for certain.
#[derive(Default)]
struct Disk {
    /// Bytes of messages in each journal, since it was last synced.
    unsynced: HashMap<PathBuf, u64>,
    /// Names given since their folder was last synced.
    unnamed: HashSet<PathBuf>,
    /// Bytes of messages since the last acknowledgement.
    since: u64,
    journals: BTreeSet<PathBuf>,
    acknowledged: usize,
}

impl Disk {
    #[track_caller]
    fn take(&mut self, call: Call) {
        match call {
            Call::Made(path) => {
                self.unnamed.insert(path);
            }
            // Nothing else in a journal is written in one stroke that is so long. What ends the
            // page is written by the same thread, between this and its sync.
            Call::Written { path, bytes } if is_journal(&path) && bytes > MESSAGE_BYTES as u64 => {
                self.since += bytes;
                self.journals.insert(path.clone());
                *self.unsynced.entry(path).or_default() += bytes;
            }
            Call::Synced(path) => {
                self.unsynced.remove(&path);
                self.unnamed.retain(|name| name.parent() != Some(path.as_path()));
            }
            Call::Said(text) if text.contains("ack ") => self.acknowledged(&text),
            _ => {}
        }
    }

    #[track_caller]
    fn acknowledged(&mut self, text: &str) {
        let page = MESSAGES * MESSAGE_BYTES as u64;
        let since = std::mem::take(&mut self.since);
        assert!(since > page, "{text}: only {since} bytes of the page were seen in a journal");
        assert!(self.unsynced.is_empty(), "{text}: before the sync of {:?}", self.unsynced);
        let counted_on = |name: &&PathBuf| name.is_dir() || self.journals.contains(*name);
        let unnamed: Vec<_> = self.unnamed.iter().filter(counted_on).collect();
        assert!(unnamed.is_empty(), "{text}: a power cut may take these names away: {unnamed:?}");
        self.acknowledged += 1;
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "jnl")
}

/// Whether there is, or was, another journal than the first.
fn has_rotated(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| file.path()).any(|path| is_journal(&path) && !path.ends_with("0.jnl"))
}

/// Lets the child publish until pages stand in a second journal, and kills it.
fn follow(strace: &mut Child, folder: &Path) {
    let out = BufReader::new(strace.stdout.take().unwrap());
    let (mut pid, mut pages, mut rotated_at) = (None, 0, None);
    for line in out.lines().map_while(Result::ok) {
        if let Some((_, found)) = line.split_once("pid ") {
            pid = Some(found.to_owned());
        }
        pages += usize::from(line.contains("ack "));
        if rotated_at.is_none() && has_rotated(folder) {
            rotated_at = Some(pages);
        }
        let enough = rotated_at.map_or(MOST_PAGES, |at| at + PAGES_AFTER_ROTATION);
        if pages >= enough
            && let Some(pid) = pid.take()
        {
            assert!(signal(pid, "KILL"), "the child could not be killed");
        }
    }
    strace.wait().unwrap();
    assert!(rotated_at.is_some(), "after {pages} pages there is one journal only");
}

#[test]
fn a_page_is_on_the_disk_with_all_its_names_before_it_is_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let above = place.path().canonicalize().unwrap();
    let (folder, trace) = (above.join("data/bus"), above.join("trace.txt"));
    let Some(mut command) = traced(&child(&folder), WRITING, &trace) else { return };
    let mut strace = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    follow(&mut strace, &folder);
    let mut disk = Disk::default();
    for call in read(&std::fs::read_to_string(&trace).unwrap()) {
        disk.take(call);
    }
    assert!(disk.acknowledged > PAGES_AFTER_ROTATION, "{} pages", disk.acknowledged);
    assert!(disk.journals.len() > 1, "pages in {:?} only", disk.journals);
}
