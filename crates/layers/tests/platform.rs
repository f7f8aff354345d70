//! What the tests stand on: a lake and an index in a folder, topics filled by hand, and silver read
//! back, by ourselves and by another engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_lake::index::{IndexStore, KeyIndex};
use alluvium_lake::table::CompactionPolicy;
use alluvium_lake::upkeep::UpkeepPolicy;
use alluvium_lake::{Lake, Table, path};
use alluvium_layers::{BronzeStage, RawStage, SilverStage};
use alluvium_model::{
    Applied, Change, Clock, Delivery, EncodedMessage, EntityId, EntitySpec, Epoch, Message, Op,
    Record, RunId, Span, Stage, SystemClock,
};
use alluvium_wire::{LineFormat, PublishContext, encode_lines, encode_page};
use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use deltalake::datafusion::prelude::SessionContext;
use serde_json::{Value, json, value::RawValue};
use tempfile::TempDir;

pub(crate) const EPOCH: Epoch = Epoch(1_700_000_000_000);

/// The rows of a table: columns by name, values as text, null as `None`.
pub(crate) type Rows = Vec<BTreeMap<String, Option<String>>>;

/// A lake and an index in a folder, for one entity.
pub(crate) struct Platform {
    folder: TempDir,
    pub(crate) lake: Lake,
    pub(crate) entity: EntitySpec,
    index: Option<(IndexStore, KeyIndex)>,
}

impl Platform {
    pub(crate) fn new(entity: Value) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), entity, Arc::new(SystemClock))
    }

    /// In memory where the system has a folder for that: for the tests that commit by the thousand.
    pub(crate) fn quick(entity: Value) -> Self {
        Self::by_clock(entity, Arc::new(SystemClock))
    }

    /// The same by another clock.
    pub(crate) fn by_clock(entity: Value, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_folder(folder.unwrap(), entity, clock)
    }

    fn in_folder(folder: TempDir, entity: Value, clock: Arc<dyn Clock>) -> Self {
        let lake = Lake::local(&folder.path().join("lake"), clock).unwrap();
        let entity: EntitySpec = serde_json::from_value(entity).unwrap();
        let mut platform = Self { folder, lake, entity, index: None };
        platform.open_index();
        platform
    }

    pub(crate) fn id(&self) -> EntityId {
        self.entity.id()
    }

    pub(crate) fn lake_folder(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    pub(crate) fn index_folder(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    pub(crate) fn index(&self) -> &KeyIndex {
        &self.index.as_ref().unwrap().1
    }

    pub(crate) fn open_index(&mut self) {
        self.close_index();
        let store = IndexStore::open(&self.index_folder()).unwrap();
        let index = store.entity(&self.id()).unwrap();
        self.index = Some((store, index));
    }

    /// Closes the index, so that its folder can be copied. Stages that use it must be gone.
    pub(crate) fn close_index(&mut self) {
        self.index = None;
    }

    /// Goes on with the index of another worker: of the two by turns.
    pub(crate) fn change_index(&mut self) {
        let other = self.folder.path().join("other");
        if !other.exists() {
            std::fs::create_dir(&other).unwrap();
        }
        let spare = self.folder.path().join("spare");
        self.close_index();
        std::fs::rename(self.index_folder(), &spare).unwrap();
        std::fs::rename(&other, self.index_folder()).unwrap();
        std::fs::rename(&spare, &other).unwrap();
        self.open_index();
    }

    pub(crate) fn silver(&self) -> SilverStage {
        let index = self.index().clone();
        SilverStage::new(self.lake.clone(), index, &self.entity, "UTC").unwrap()
    }

    /// A silver stage that puts files together as soon as there are two, and waits for it.
    pub(crate) fn silver_kept_eagerly(&self) -> SilverStage {
        self.silver().with_upkeep(eager())
    }

    /// A silver stage with an index of its own, as another process would have it.
    pub(crate) fn silver_elsewhere(&self) -> SilverStage {
        let index = self.index_of(0);
        SilverStage::new(self.lake.clone(), index, &self.entity, "UTC").unwrap()
    }

    /// The index that another process has.
    pub(crate) fn index_of(&self, process: u64) -> KeyIndex {
        let folder = self.folder.path().join(format!("elsewhere{process}"));
        IndexStore::open(&folder).unwrap().entity(&self.id()).unwrap()
    }

    pub(crate) fn bronze(&self) -> BronzeStage {
        BronzeStage::new(self.lake.clone(), &self.entity, "UTC").unwrap()
    }

    pub(crate) fn raw(&self, linger_bytes: usize) -> RawStage {
        RawStage::new(self.lake.clone(), self.id(), linger_bytes)
    }

    pub(crate) async fn silver_table(&self) -> Table {
        Table::open(&self.lake, &path::silver(&self.id())).await.unwrap().unwrap()
    }

    /// The silver table's rows as batches, read by ourselves.
    pub(crate) async fn silver_batches(&self) -> Vec<RecordBatch> {
        scan(&self.silver_table().await).await
    }

    pub(crate) async fn silver_rows(&self) -> Rows {
        as_rows(&self.silver_batches().await)
    }

    /// The same rows as the Delta library and DataFusion see them.
    pub(crate) async fn silver_rows_by_datafusion(&self) -> Rows {
        let url = self.lake.url_of(&path::silver(&self.id()));
        let table = deltalake::open_table(url).await.unwrap();
        let context = SessionContext::new();
        context.register_table("t", table.table_provider().await.unwrap()).unwrap();
        as_rows(&context.sql("select * from t").await.unwrap().collect().await.unwrap())
    }

    /// Versions in short, sorted: what of `columns` stands from when to when, by which operation.
    pub(crate) async fn history(&self, columns: &[&str]) -> Vec<String> {
        let text = |row: &BTreeMap<String, Option<String>>, name: &str| {
            row[name].clone().unwrap_or_else(|| "-".to_owned())
        };
        let line = |row: &BTreeMap<String, Option<String>>| {
            let values: Vec<String> = columns.iter().map(|name| text(row, name)).collect();
            assert_eq!(text(row, "_is_current"), row["_valid_to"].is_none().to_string());
            let (from, to) = (text(row, "_valid_from"), text(row, "_valid_to"));
            format!("{} [{from},{to}) {}", values.join(" "), text(row, "_op"))
        };
        let rows = self.silver_rows().await;
        let mut keyed: Vec<_> =
            rows.iter().map(|row| (text(row, columns[0]), text(row, "_seq"), line(row))).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(.., line)| line).collect()
    }
}

/// Upkeep at every occasion.
pub(crate) fn eager() -> UpkeepPolicy {
    let compaction = CompactionPolicy { fan_in: 2, deleted_percent: 1, ..Default::default() };
    UpkeepPolicy { compaction, most_files: 0, checkpoint_every: 2, ..UpkeepPolicy::default() }
}

pub(crate) async fn scan(table: &Table) -> Vec<RecordBatch> {
    let mut scan = table.scan(None).unwrap();
    let mut batches = Vec::new();
    while let Some(rows) = scan.next().await {
        batches.push(rows.unwrap().batch);
    }
    batches
}

pub(crate) fn as_rows(batches: &[RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            let columns = batch.schema_ref().fields().iter().zip(batch.columns());
            let row = columns.map(|(field, column)| {
                let text = column.is_valid(at).then(|| array_value_to_string(column, at).unwrap());
                (field.name().clone(), text)
            });
            rows.push(row.collect());
        }
    }
    rows.sort_unstable();
    rows
}

/// The silver table's rows but for the batches that wrote them.
pub(crate) async fn rows(platform: &Platform) -> Rows {
    without_batch(platform.silver_rows().await)
}

/// Rows but for the batches that wrote them.
pub(crate) fn without_batch(mut rows: Rows) -> Rows {
    rows.iter_mut().for_each(|row| drop(row.remove("_batch_id")));
    rows.sort_unstable();
    rows
}

/// A topic that a test fills. Every delivery of it holds messages that nobody has decoded.
pub(crate) struct Topic {
    entity: EntityId,
    pub(crate) epoch: Epoch,
    pub(crate) messages: Vec<Message>,
}

impl Topic {
    pub(crate) fn of(platform: &Platform) -> Self {
        Self { entity: platform.id(), epoch: EPOCH, messages: Vec::new() }
    }

    pub(crate) fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    fn context(&self) -> PublishContext {
        PublishContext {
            entity: self.entity.clone(),
            run: Some(RunId("run-1".to_owned())),
            traceparent: None,
            delivery: format!("page-{}", self.end()),
            ordinal: 0,
            now: "2026-11-21T08:00:00Z".parse().unwrap(),
        }
    }

    pub(crate) fn push(&mut self, encoded: EncodedMessage) {
        let offset = self.end() + 1;
        let published = 1_763_000_000_000_000 + offset as i64;
        self.messages.push(Message::new(self.epoch, offset, published, encoded, None));
    }

    /// The messages in (after, to] once more: their page is published twice.
    pub(crate) fn again(&mut self, after: u64, to: u64) {
        for at in after..to {
            let Message { headers, payload, records, .. } = &self.messages[at as usize];
            let (headers, payload) = (headers.clone(), payload.clone());
            self.push(EncodedMessage { headers, payload, records: *records });
        }
    }

    /// One message of lines as they are.
    pub(crate) fn lines(&mut self, format: &LineFormat, lines: impl Into<Bytes>) {
        let encoded = encode_lines(lines.into(), format, &self.context());
        encoded.into_iter().for_each(|message| self.push(message));
    }

    /// One message of lines such as `{"op":"insert","seq":5,"after":{..}}`.
    pub(crate) fn mapped(&mut self, lines: &[&str]) {
        let format = LineFormat::Map("op=op,sequence=seq,row=after".parse().unwrap());
        self.lines(&format, lines.join("\n"));
    }

    /// One message of changes.
    pub(crate) fn changes(&mut self, changes: Vec<Change>) {
        self.records(changes.into_iter().map(Record::Change).collect());
    }

    pub(crate) fn records(&mut self, records: Vec<Record>) {
        let page = encode_page(&records, &self.context()).unwrap();
        page.messages.into_iter().for_each(|message| self.push(message));
    }

    /// The messages in (after, to].
    pub(crate) fn delivery(&self, after: u64, to: u64) -> Delivery {
        let messages = &self.messages[after as usize..to as usize];
        Delivery {
            entity: self.entity.clone(),
            span: Span { epoch: self.epoch, after, to },
            messages: messages.iter().map(|message| Arc::new(message.undecoded())).collect(),
        }
    }

    pub(crate) fn all(&self) -> Delivery {
        self.delivery(0, self.end())
    }

    /// The newest message.
    pub(crate) fn newest(&self) -> Delivery {
        self.delivery(self.end() - 1, self.end())
    }
}

/// Applies a delivery, of which nothing may linger, and checks what is said of it.
pub(crate) async fn apply(stage: &mut dyn Stage, delivery: &Delivery) -> Applied {
    let batches = stage.apply(delivery).await.unwrap();
    let mut applied = whole(batches);
    applied.span.after = delivery.span.after;
    assert!(applied.counts.is_conserved(), "{:?}", applied.counts);
    assert_eq!(applied.counts.records, delivery.records());
    assert_eq!(applied.span, delivery.span);
    applied
}

/// Batches as if they were one: a control record is a batch of its own in silver.
fn whole(batches: Vec<Applied>) -> Applied {
    let mut batches = batches.into_iter();
    let first = batches.next().unwrap();
    batches.fold(first, |mut all, next| {
        assert_eq!(all.span.to, next.span.after, "batches follow each other");
        all.span.to = next.span.to;
        all.counts += next.counts;
        all.checksum += next.checksum;
        all.quarantined.extend(next.quarantined);
        all.bytes += next.bytes;
        Applied { version: next.version, ..all }
    })
}

pub(crate) fn raw_json(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// A change of `row`, or a delete of it.
pub(crate) fn change(op: Op, row: &Value, sequence: Vec<Value>) -> Change {
    let base = match op {
        Op::Delete => Change::delete(raw_json(row)),
        _ => Change::upsert(raw_json(row)),
    };
    Change { op, sequence, ..base }
}

/// People by number, with a name that is tracked and a mood that is not; ordered by a carried long.
pub(crate) fn people() -> Value {
    json!({
        "system": "hall", "name": "people", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string", "length": 20},
            {"name": "mood", "type": "string", "history": "latest"},
        ],
    })
}

/// Lines about [`people`]: `name` and `mood` of number 1, at `seq`.
pub(crate) fn person(seq: i64, name: &str, mood: &str) -> String {
    json!({"op": "update", "seq": seq, "after": {"id": 1, "name": name, "mood": mood}}).to_string()
}

pub(crate) fn gone(seq: i64) -> String {
    json!({"op": "delete", "seq": seq, "before": {"id": 1}}).to_string()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// All files below `folder` whose name ends in `suffix`, sorted.
pub(crate) fn files_below(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.to_string_lossy().ends_with(suffix) => found.push(entry),
                false => {}
            }
        }
    }
    found.sort_unstable();
    found
}
