//! A lake with a table of orders, raw records, and a ledger beside it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_lake::raw::{self, Landed, RawDraft, RawTotals};
use alluvium_lake::{Commit, CommitOutcome, FileId, Lake, Table, TableSpec, path};
use alluvium_ledger::LedgerTables;
use alluvium_model::{Clock, EncodedMessage, EntityId, Epoch, Headers, Message, SystemClock};
use alluvium_query::{Query, QueryError, QueryOptions, output};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use roaring::RoaringTreemap;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Fixture {
    folder: TempDir,
    pub(crate) lake: Lake,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    pub(crate) fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::local(&folder.path().join("lake"), clock).unwrap();
        Self { folder, lake }
    }

    /// With 100 orders, of which the first ten were updated.
    pub(crate) async fn with_orders() -> Self {
        let fixture = Self::new();
        Orders::create(&fixture.lake, "silver").await.update(1..=10, 2).await;
        fixture
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn query(&self) -> Query {
        self.query_with(QueryOptions::default())
    }

    pub(crate) fn query_with(&self, options: QueryOptions) -> Query {
        Query::open_with(self.lake.clone(), Some(LedgerTables::at(self.ledger())), options).unwrap()
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Value> {
        json(&self.query(), sql).await.unwrap()
    }

    pub(crate) async fn error(&self, sql: &str) -> QueryError {
        json(&self.query(), sql).await.unwrap_err()
    }
}

pub(crate) fn orders() -> EntityId {
    "shop.orders".parse().unwrap()
}

pub(crate) async fn json(query: &Query, sql: &str) -> Result<Vec<Value>, QueryError> {
    let text = text(query.sql(sql).await?, output::Format::Ndjson).await?;
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

pub(crate) async fn text(
    rows: alluvium_query::Rows,
    format: output::Format,
) -> Result<String, QueryError> {
    let mut out = Vec::new();
    output::write(rows, format, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// The table of orders, as its writer holds it.
pub(crate) struct Orders {
    pub(crate) table: Table,
    first: FileId,
}

impl Orders {
    /// 100 current orders in one file.
    pub(crate) async fn create(lake: &Lake, layer: &str) -> Self {
        let path = match layer {
            "bronze" => path::bronze(&orders()),
            _ => path::silver(&orders()),
        };
        let spec = TableSpec {
            path,
            description: "orders".to_owned(),
            schema: schema(),
            partition_by: Some("_is_current"),
            deletion_vectors: true,
            stats: ["id", "_valid_from", "_valid_to"].map(str::to_owned).to_vec(),
        };
        let mut table = Table::open_or_create(lake, spec).await.unwrap();
        let staged = table.stage_file(&versions(1..=100, 1, None), Some(true)).await.unwrap();
        let first = commit(&mut table, vec![staged], BTreeMap::new()).await[0];
        Self { table, first }
    }

    /// Some are closed at a day, deleted where they stood, and opened anew.
    pub(crate) async fn update(&mut self, ids: RangeInclusive<i64>, day: i64) {
        let rows = ids.clone().map(|id| id.cast_unsigned() - 1);
        let deleted = BTreeMap::from([(self.first, RoaringTreemap::from_iter(rows))]);
        let closed = versions(ids.clone(), 1, Some(day));
        let closed = self.table.stage_file(&closed, Some(false)).await.unwrap();
        let opened = self.table.stage_file(&versions(ids, day, None), Some(true)).await.unwrap();
        commit(&mut self.table, vec![closed, opened], deleted).await;
    }
}

pub(crate) async fn commit(
    table: &mut Table,
    add: Vec<alluvium_lake::StagedFile>,
    delete: BTreeMap<FileId, RoaringTreemap>,
) -> Vec<FileId> {
    let commit = Commit { add, delete, txns: Vec::new(), info: Value::Null, operation: "MERGE" };
    match table.commit(commit).await.unwrap() {
        CommitOutcome::Written { added, .. } => added,
        CommitOutcome::Conflict => panic!("nobody else writes"),
    }
}

pub(crate) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("Name", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(38, 2), true),
        Field::new("weight", DataType::Float64, true),
        Field::new("due", DataType::Date32, true),
        Field::new("_key_hash", DataType::Binary, false),
        Field::new("_valid_from", instant(), false),
        Field::new("_valid_to", instant(), true),
        Field::new("_is_current", DataType::Boolean, false),
        Field::new("_op", DataType::Utf8, false),
        Field::new("_seq", DataType::Utf8, false),
        Field::new("_run_id", DataType::Utf8, true),
        Field::new("_batch_id", DataType::Utf8, false),
        Field::new("_position", DataType::Utf8, false),
    ]))
}

/// A version of each order: valid from day `from` on, to day `to`.
fn versions(ids: RangeInclusive<i64>, from: i64, to: Option<i64>) -> RecordBatch {
    const DAY: i64 = 86_400_000_000;
    let ids: Vec<i64> = ids.collect();
    let each = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; ids.len()])) };
    let text = |of: &dyn Fn(i64) -> Option<String>| -> ArrayRef {
        Arc::new(ids.iter().map(|id| of(*id)).collect::<StringArray>())
    };
    let at = |day: Option<i64>| -> ArrayRef {
        let days = TimestampMicrosecondArray::from(vec![day.map(|d| d * DAY); ids.len()]);
        Arc::new(days.with_timezone("UTC"))
    };
    let prices =
        Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(id * 100 + from)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("Name", text(&|id| (id % 7 != 0).then(|| format!("name {id}")))),
        ("price", Arc::new(prices.with_precision_and_scale(38, 2).unwrap())),
        ("weight", Arc::new(ids.iter().map(|id| Some(*id as f64 / 8.0)).collect::<Float64Array>())),
        ("due", Arc::new(ids.iter().map(|id| Some(*id as i32)).collect::<Date32Array>())),
        (
            "_key_hash",
            Arc::new(BinaryArray::from_iter_values(ids.iter().map(|id| id.to_be_bytes()))),
        ),
        ("_valid_from", at(Some(from))),
        ("_valid_to", at(to)),
        ("_op", each(if from == 1 { "c" } else { "u" })),
        ("_seq", each(&format!("{from:016x}"))),
        ("_run_id", each("run")),
        ("_batch_id", each("batch")),
        ("_position", text(&|id| Some(format!("1/{id}/0")))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| {
        (name, column, schema().field_with_name(name).unwrap().is_nullable())
    }))
    .unwrap()
}

/// Lands one raw object for each of `objects`, of one message each.
pub(crate) async fn land(lake: &Lake, objects: &[&[u8]]) {
    let mut before = RawTotals::default();
    for (offset, payload) in (1u64..).zip(objects) {
        let body = payload.strip_suffix(b"\n").unwrap_or(payload);
        let records = body.split(|b| *b == b'\n').count() as u32;
        let headers = Headers::default().with("content-type", "application/x-ndjson");
        let encoded = EncodedMessage { headers, payload: Bytes::copy_from_slice(payload), records };
        let published = 1_000_000 * i64::try_from(offset).unwrap();
        let message = Message::new(Epoch(1), offset, published, encoded, None);
        let mut draft = RawDraft::new(orders(), Epoch(1), offset - 1).unwrap();
        draft.push(&message).unwrap();
        match raw::land(lake, draft, before).await.unwrap() {
            Landed::Written(header) => before = header.totals,
            Landed::AlreadyThere(_) => panic!("it was landed before"),
        }
    }
}
