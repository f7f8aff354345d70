//! Who stands by follows a first load of any size while it goes on: new keys go into its index piece
//! by piece.

use std::fs;

use alluvium_model::Stage;
use serde_json::{Value, json};

use crate::crash::{is_marked, mark};
use crate::histories::indexes_agree;
use crate::platform::{Platform, Topic, apply, files_below};

/// So many keys, and so long a text of each: more than is held in memory at a time.
const KEYS: u64 = 60_000;
const LENGTH: usize = 900;

fn notes() -> Value {
    json!({
        "system": "hall", "name": "notes", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}],
    })
}

fn line(op: &str, seq: u64, id: u64, text: &str) -> String {
    let row = json!({"id": id, "text": text});
    json!({"op": op, "seq": seq, "after": row, "before": row}).to_string()
}

/// A topic that begins with a few keys; the load that comes then has more of these too.
fn topic(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    let few: Vec<String> = (0..4).map(|id| line("insert", 10, id, "before")).collect();
    topic.mapped(&few.iter().map(String::as_str).collect::<Vec<_>>());
    for part in 0..6 {
        let ids = part * KEYS / 6..(part + 1) * KEYS / 6;
        let mut load: Vec<String> =
            ids.map(|id| line("update", 100, id, &format!("{id:>LENGTH$}"))).collect();
        load.push(line("delete", 200 + part, part, ""));
        load.push(line("update", 50, 1, "late"));
        load.push(line("update", 300, KEYS / 2 + part, "twice in the load"));
        topic.mapped(&load.iter().map(String::as_str).collect::<Vec<_>>());
    }
    topic
}

/// A platform with the few keys, which the other process has followed and marked.
async fn followed() -> (Platform, Topic) {
    let mut platform = Platform::new(notes());
    let topic = topic(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    platform.change_index();
    platform.silver().follow().await.unwrap();
    mark(platform.index());
    platform.change_index();
    (platform, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_is_followed_at_any_size() {
    let (mut platform, topic) = followed().await;
    apply(&mut platform.silver(), &topic.delivery(1, topic.end())).await;
    platform.change_index();
    platform.silver().follow().await.unwrap();
    assert!(is_marked(platform.index()), "it was made anew");
    assert_eq!(platform.index().keys().unwrap(), KEYS as usize);
    indexes_agree(&platform).await.unwrap();
    assert!(!is_marked(platform.index()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_that_breaks_off_leaves_no_half_of_it_in_the_index() {
    let (mut platform, topic) = followed().await;
    let before = files_below(&platform.lake_folder(), ".zstd.parquet");
    apply(&mut platform.silver(), &topic.delivery(1, topic.end())).await;
    let mut files = files_below(&platform.lake_folder(), ".zstd.parquet");
    files.retain(|file| !before.contains(file));
    let file = files.into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let at = whole.len() * 9 / 10;
    damaged[at..at + 1000].fill(0xaa);
    fs::write(&file, damaged).unwrap();

    platform.change_index();
    let mut stage = platform.silver();
    stage.follow().await.unwrap_err();
    assert_eq!(platform.index().reflects().unwrap(), None);
    fs::write(&file, whole).unwrap();
    stage.follow().await.unwrap();
    drop(stage);
    assert_eq!(platform.index().keys().unwrap(), KEYS as usize);
    indexes_agree(&platform).await.unwrap();
}
