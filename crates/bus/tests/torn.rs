//! A torn tail of the journal, as a kill or a power cut leaves it, is dropped; all that was
//! acknowledged before it stays.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alluvium_model::Publisher;

use crate::support::{open, page, read_all, record, topic};
use alluvium_bus::testkit::noise;

const PAGES: u64 = 6;

async fn fill(folder: &Path) {
    let bus = open(folder);
    for n in 1..=PAGES {
        let payloads = (0..n).map(|m| noise(n * 10 + m, 9000));
        bus.publish(&topic(), page(payloads), Some(record(n))).await.unwrap();
    }
}

fn journal(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "jnl")).max().unwrap()
}

/// Where the last batch ends; zeros follow.
fn end_of_data(path: &Path) -> u64 {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.iter().rposition(|b| *b != 0).unwrap() as u64 + 1
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Checks that the bus has `pages` whole pages, no more, and goes on from there.
async fn check(folder: &Path, pages: u64) {
    let bus = open(folder);
    let messages = read_all(&bus, &topic()).await;
    assert_eq!(messages.len() as u64, (1..=pages).sum::<u64>());
    assert_eq!(bus.cursor(&topic()).await.unwrap(), Some(record(pages)));
    let mut at = messages.iter();
    for n in 1..=pages {
        for m in 0..n {
            assert_eq!(at.next().unwrap().payload, noise(n * 10 + m, 9000));
        }
    }
    let next = page([noise(0, 10)]);
    let published = bus.publish(&topic(), next, Some(record(pages + 1))).await.unwrap();
    assert_eq!(published.span.after, messages.len() as u64);
    drop(bus);
    assert_eq!(read_all(&open(folder), &topic()).await.len(), messages.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_after_the_last_page_is_dropped() {
    for garbage in [vec![0xab; 5000], vec![1], [&[1, 9, 0, 0, 0][..], &noise(3, 300)].concat()] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path()).await;
        let journal = journal(folder.path());
        write_at(&journal, end_of_data(&journal), &garbage);
        check(folder.path(), PAGES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_end_of_the_file_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let journal = journal(folder.path());
    write_at(&journal, std::fs::metadata(&journal).unwrap().len(), b"garbage");
    check(folder.path(), PAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_end_is_missing_is_dropped_whole() {
    for missing in [1, 20, 9000, 30_000] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path()).await;
        let journal = journal(folder.path());
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        file.set_len(end_of_data(&journal) - missing).unwrap();
        check(folder.path(), PAGES - 1).await;
    }
}

/// A power cut may leave the end of a batch on disk and not its middle. The engine alone would
/// refuse to open then.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_middle_is_missing_is_dropped_whole() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let journal = journal(folder.path());
    write_at(&journal, end_of_data(&journal) - 6000, &[0; 4096]);
    check(folder.path(), PAGES - 1).await;
}

/// Flips a byte in the middle of a page, counted from 1.
fn damage(folder: &Path, number: u64) {
    let journal = journal(folder);
    let bytes = std::fs::read(&journal).unwrap();
    let payload = noise(number * 10, 9000);
    let at = bytes.windows(64).position(|part| part == &payload[4000..4064]).unwrap();
    write_at(&journal, at as u64, &[!bytes[at]]);
}

/// Each of them was synced before the next one was written.
#[tokio::test(flavor = "multi_thread")]
async fn damage_before_pages_that_were_acknowledged_is_told_and_cuts_nothing_off() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    for number in [PAGES - 2, 2] {
        damage(folder.path(), number);
        let before = std::fs::read(journal(folder.path())).unwrap();
        let clock = std::sync::Arc::new(alluvium_model::SystemClock);
        let opened = alluvium_bus::EmbeddedBus::open(folder.path(), Default::default(), clock);
        let refused = opened.map(drop).unwrap_err();
        assert!(matches!(&refused, alluvium_model::BusError::Corrupt(_)), "{refused:?}");
        assert!(refused.to_string().contains("lost bus"), "{refused}");
        assert_eq!(std::fs::read(journal(folder.path())).unwrap(), before);
    }
}

/// A journal that was just made has nothing in it yet. The engine alone would cut off what stands
/// behind the damage in the one before, since no item begins there.
#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_journal_that_has_a_successor_is_told() {
    for begun in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path()).await;
        let full = journal(folder.path());
        let bytes = std::fs::read(&full).unwrap();
        let payload = noise(30, 9000);
        let at = bytes.windows(64).position(|part| part == &payload[4000..4064]).unwrap() as u64;
        write_at(&full, at, &[0; 9000]);
        let before = std::fs::read(&full).unwrap();
        let next = folder.path().join("1.jnl");
        assert_ne!(full, next);
        std::fs::write(&next, if begun { vec![1; 100] } else { vec![0; 100] }).unwrap();
        let clock = std::sync::Arc::new(alluvium_model::SystemClock);
        let opened = alluvium_bus::EmbeddedBus::open(folder.path(), Default::default(), clock);
        let refused = opened.map(drop).unwrap_err();
        assert!(matches!(&refused, alluvium_model::BusError::Corrupt(_)), "{refused:?}");
        assert_eq!(std::fs::read(&full).unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_a_journal_that_has_a_successor_are_there() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    std::fs::write(folder.path().join("1.jnl"), vec![0; 1 << 20]).unwrap();
    check(folder.path(), PAGES).await;
}

/// The engine marks its version last, and does not begin anew over what it has made before.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_was_killed_while_it_was_made_is_made_again() {
    for version in [None, Some(b"")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("keyspaces")).unwrap();
        std::fs::write(folder.path().join("lock"), b"").unwrap();
        std::fs::write(folder.path().join("0.jnl"), vec![0; 1 << 20]).unwrap();
        if let Some(version) = version {
            std::fs::write(folder.path().join("version"), version).unwrap();
        }
        fill(folder.path()).await;
        check(folder.path(), PAGES).await;
    }
}

/// A bus that has lost its version is no unfinished one.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_has_pages_is_never_made_again() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let kept = std::fs::read(journal(folder.path())).unwrap();
    std::fs::remove_file(folder.path().join("version")).unwrap();
    let clock = std::sync::Arc::new(alluvium_model::SystemClock);
    let opened = alluvium_bus::EmbeddedBus::open(folder.path(), Default::default(), clock);
    assert!(opened.is_err());
    assert_eq!(std::fs::read(journal(folder.path())).unwrap(), kept);
}

/// The last page may be one that was written and not synced: nobody was told that it stands.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_tail_with_one_whole_page_a_copy_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let journal = journal(folder.path());
    let (before, end) = (std::fs::read(&journal).unwrap(), end_of_data(&journal));
    damage(folder.path(), PAGES - 1);
    check(folder.path(), PAGES - 2).await;
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let kept: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "torn")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let kept = std::fs::read(&kept[0]).unwrap();
    let last = noise(PAGES * 10 + PAGES - 1, 9000);
    assert!(kept.windows(64).any(|part| part == &last[4000..4064]));
    assert!(kept.len() < end as usize && before.len() >= end as usize);
}
