//! Who stands by follows a first load of any size while it goes on: new keys go into its index piece
//! by piece.

use alluvium_lake::index::CurrentEntry;
use alluvium_model::Stage;
use serde_json::{Value, json};

use crate::crash::{is_marked, mark};
use crate::histories::indexes_agree;
use crate::platform::{Platform, Topic, apply};

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

/// The process that stands by died after a piece of the load.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_that_broke_off_is_not_believed() {
    let (mut platform, topic) = followed().await;
    apply(&mut platform.silver(), &topic.delivery(1, topic.end())).await;
    platform.change_index();
    let piece = CurrentEntry { known: b"new", read: false, completed: false, open: None };
    let mut bytes = Vec::new();
    piece.put(&mut bytes);
    platform.index().bulk_current((1..1000).map(|key| (key, bytes.as_slice()))).unwrap();
    assert!(is_marked(platform.index()));
    platform.silver().follow().await.unwrap();
    assert!(!is_marked(platform.index()));
    assert_eq!(platform.index().keys().unwrap(), KEYS as usize);
    indexes_agree(&platform).await.unwrap();
}
