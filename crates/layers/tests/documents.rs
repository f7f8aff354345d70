//! Raw, bronze and what `verify` says of all three layers, sound and sabotaged.

use std::fs;

use alluvium_lake::{Commit, Table, path};
use alluvium_layers::verify::{Verification, verify};
use alluvium_model::{Layer, Op, Stage};
use alluvium_wire::LineFormat;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use crate::platform::{
    Platform, Topic, apply, as_rows, change, files_below, gone, people, person, scan,
};

fn filled(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    topic.mapped(&[&person(10, "Ann", "calm"), &person(20, "Bob", "calm"), "no JSON", &gone(30)]);
    topic.changes(vec![change(Op::Create, &json!({"id": 2, "name": "Eve"}), vec![json!(5)])]);
    topic.lines(&LineFormat::Envelope, "null");
    topic.mapped(&[&person(15, "Cid", "sad")]);
    topic
}

async fn land_all(platform: &Platform, topic: &Topic) {
    for stage in [
        &mut platform.raw(1 << 20) as &mut dyn Stage,
        &mut platform.bronze(),
        &mut platform.silver(),
    ] {
        for (after, to) in [(0, 2), (2, topic.end())] {
            stage.apply(&topic.delivery(after, to)).await.unwrap();
            stage.flush().await.unwrap();
        }
    }
}

async fn verified(platform: &Platform) -> Verification {
    verify(&platform.lake, &platform.entity, |done, of| assert!(done <= of)).await.unwrap()
}

/// The checks that do not hold.
fn broken(found: &Verification) -> Vec<(Layer, &'static str)> {
    assert_eq!(found.holds(), found.checks.iter().all(|check| check.holds));
    found
        .checks
        .iter()
        .filter(|check| !check.holds)
        .map(|check| (check.layer, check.check))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_the_line_as_it_was_received() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    let odd = r#"{ "op":"insert" ,"seq":5,"after":{"id":1, "name":"æ\u00e6","extra":[1,2.50]} }"#;
    topic.mapped(&[odd, &gone(9), "[]", &person(7, "a name that is much too long", "")]);
    let applied = apply(&mut platform.bronze(), &topic.all()).await;
    assert_eq!(
        (applied.counts.inserted, applied.counts.quarantined, applied.rows.opened),
        (2, 2, 2)
    );
    let table = Table::open(&platform.lake, &path::bronze(&platform.id())).await.unwrap().unwrap();
    let rows = as_rows(&scan(&table).await);
    let get = |op: &str, name: &str| {
        rows.iter().find(|row| row["_op"].as_deref() == Some(op)).unwrap()[name].clone().unwrap()
    };
    assert_eq!(rows.len(), 2);
    assert_eq!(get("c", "document"), odd);
    assert_eq!(get("d", "document"), gone(9));
    assert_eq!(get("c", "_key"), r#"{"id":1}"#);
    assert_eq!(get("c", "_seq"), "8000000000000005");
    assert_eq!(get("d", "_position"), "1700000000000/1/1");
    assert_eq!(get("d", "_run_id"), "run-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_lingers_until_enough_has_come_together_or_it_is_flushed() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    let enough = topic.delivery(0, 2).bytes();
    let mut raw = platform.raw(enough);
    assert_eq!(raw.apply(&topic.delivery(0, 1)).await.unwrap(), []);
    assert_eq!(raw.apply(&topic.delivery(0, 1)).await.unwrap(), [], "it waits already");
    let landed = raw.apply(&topic.delivery(1, 2)).await.unwrap();
    assert_eq!((landed[0].span.after, landed[0].span.to), (0, 2));
    assert_eq!(landed[0].counts.records, topic.delivery(0, 2).records());
    assert!(landed[0].counts.is_conserved());
    assert_eq!(raw.apply(&topic.delivery(2, 3)).await.unwrap(), []);

    // What waits is not landed: a successor does not count on it, and neither does this one after
    // an error.
    let mut successor = platform.raw(enough);
    assert_eq!(successor.progress().await.unwrap().unwrap().offset, 2);
    assert_eq!(raw.progress().await.unwrap().unwrap().offset, 2);
    assert_eq!(raw.flush().await.unwrap(), []);

    assert_eq!(successor.apply(&topic.delivery(2, 4)).await.unwrap(), []);
    let flushed = successor.flush().await.unwrap();
    assert_eq!((flushed[0].span.after, flushed[0].span.to), (2, 4));
    assert_eq!(successor.flush().await.unwrap(), []);
    let progress = successor.progress().await.unwrap().unwrap();
    assert_eq!((progress.offset, progress.totals.records), (4, topic.all().records()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_layers_have_landed_everything_adds_up() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    assert!(verified(&platform).await.holds(), "an empty lake has nothing wrong with it");
    land_all(&platform, &topic).await;
    let found = verified(&platform).await;
    assert_eq!(broken(&found), []);
    for layer in Layer::ALL {
        assert!(found.checks.iter().any(|check| check.layer == layer), "{layer}: {found:?}");
    }
    let mut totals = Vec::new();
    for stage in
        [&mut platform.raw(1) as &mut dyn Stage, &mut platform.bronze(), &mut platform.silver()]
    {
        let progress = stage.progress().await.unwrap().unwrap();
        assert!(progress.totals.is_conserved());
        totals.push((progress.offset, progress.totals.records, progress.checksum));
    }
    assert!(totals.iter().all(|one| *one == totals[0]), "{totals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_anywhere_in_a_raw_object_is_found() {
    let platform = Platform::new(people());
    land_all(&platform, &filled(&platform)).await;
    let objects = files_below(&platform.lake_folder().join("raw"), ".zst");
    assert_eq!(objects.len(), 2);
    let whole = fs::read(&objects[0]).unwrap();
    let content = zstd::decode_all(&whole[..]).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        // One bit of a frame's header means nothing; this is not it.
        flipped[at] ^= 0x01;
        fs::write(&objects[0], &flipped).unwrap();
        // Where a match repeats itself, two ways to pack it hold the same bytes.
        let same = zstd::decode_all(&flipped[..]).is_ok_and(|bytes| bytes == content);
        assert!(same || !verified(&platform).await.holds(), "byte {at} of {}", whole.len());
    }
    fs::write(&objects[0], &whole).unwrap();
    assert!(verified(&platform).await.holds());
    fs::remove_file(&objects[0]).unwrap();
    assert_eq!(broken(&verified(&platform).await), [(Layer::Raw, "bytes against header")]);
}

/// A commit by somebody else, which says nothing of itself.
fn silent(add: Vec<alluvium_lake::StagedFile>) -> Commit {
    Commit {
        add,
        delete: Default::default(),
        txns: Vec::new(),
        info: Value::Null,
        operation: "WRITE",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_another_commit_removed_are_missed() {
    let platform = Platform::new(people());
    land_all(&platform, &filled(&platform)).await;
    let place = path::bronze(&platform.id());
    let mut table = Table::open(&platform.lake, &place).await.unwrap().unwrap();
    let (id, rows) = table.files().map(|file| (file.id, file.rows)).next().unwrap();
    let delete = [(id, (0..rows).collect::<RoaringTreemap>())].into();
    table.commit(Commit { delete, ..silent(Vec::new()) }).await.unwrap();
    assert_eq!(broken(&verified(&platform).await), [(Layer::Bronze, "rows")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_stands_twice_is_found() {
    let platform = Platform::new(people());
    land_all(&platform, &filled(&platform)).await;
    let mut table = platform.silver_table().await;
    let mut batch = platform.silver_batches().await.remove(0);
    let partition = batch.schema().index_of("_is_current").unwrap();
    let current = as_rows(&[batch.clone()])[0]["_is_current"].as_deref() == Some("true");
    batch.remove_column(partition);
    let file = table.stage_file(&batch, Some(current)).await.unwrap();
    table.commit(silent(vec![file])).await.unwrap();
    assert_eq!(broken(&verified(&platform).await), [(Layer::Silver, "intervals")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_took_in_other_records_than_raw_is_found() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    let mut other = Topic::of(&platform);
    for offset in 0..topic.end() {
        match offset {
            0 => other.mapped(&[
                &person(10, "Ann", "calm"),
                &person(20, "Bab", "calm"),
                "no JSON",
                &gone(30),
            ]),
            _ => other.push(alluvium_model::EncodedMessage {
                headers: topic.messages[offset as usize].headers.clone(),
                payload: topic.messages[offset as usize].payload.clone(),
                records: topic.messages[offset as usize].records,
            }),
        }
    }
    let mut raw = platform.raw(1);
    raw.apply(&topic.all()).await.unwrap();
    apply(&mut platform.silver(), &other.all()).await;
    assert_eq!(broken(&verified(&platform).await), [(Layer::Silver, "against raw")]);
}
