//! Walks through a run, and shows records as text that can be compared.

use alluvium_model::metadata::SequenceBy;
use alluvium_model::sequence::{Instant, SequenceBuilder};
use alluvium_model::{
    Change, ColumnType, Cursor, EntitySpec, Op, Record, SequenceType, Source, SourceError,
};
use jiff::tz::TimeZone;
use serde_json::Value;

/// No run of a test has more pages than this.
const MOST_PAGES: usize = 1_000;

/// The pages of a run: the cursor before each, and what it brought.
pub struct Walked {
    /// For each page, the cursor before it and its records.
    pub pages: Vec<(Option<Cursor>, Vec<Record>)>,
    /// The cursor after the last page.
    pub cursor: Option<Cursor>,
}

impl Walked {
    /// All changes of the run.
    pub fn changes(&self) -> Vec<&Change> {
        let records = self.pages.iter().flat_map(|(_, records)| records);
        records
            .filter_map(|record| match record {
                Record::Change(change) => Some(change),
                Record::Control(_) => None,
            })
            .collect()
    }

    /// All records of the run as text.
    pub fn text(&self) -> Vec<String> {
        self.pages.iter().flat_map(|(_, records)| records).map(text_of).collect()
    }
}

/// Polls until there is no more.
#[allow(clippy::panic, reason = "a run without end is a failed test")]
pub async fn drain(
    source: &mut dyn Source,
    entity: &EntitySpec,
    from: Option<Cursor>,
) -> Result<Walked, SourceError> {
    let mut walked = Walked { pages: Vec::new(), cursor: from };
    for _ in 0..MOST_PAGES {
        let before = walked.cursor.clone();
        let page = source.poll(entity, before.as_ref()).await?;
        walked.pages.push((before, page.records));
        if let Some(next) = page.next {
            walked.cursor = Some(next);
        }
        if !page.more {
            return Ok(walked);
        }
    }
    panic!("a run of more than {MOST_PAGES} pages");
}

/// Everything a record carries, as text: two records are the same if their texts are.
pub fn text_of(record: &Record) -> String {
    let Record::Change(change) = record else { return format!("{record:?}") };
    let raw = |json: &Option<Box<serde_json::value::RawValue>>| {
        json.as_ref().map_or("-".to_owned(), |json| json.get().to_owned())
    };
    let Change { op, sequence, changed_at_ms, snapshot, unset, .. } = change;
    let (before, after, old) = (raw(&change.before), raw(&change.after), raw(&change.old_key));
    let (op, origin) = (op.as_str(), raw(&change.origin));
    format!(
        "{op} {before} {after} {old} {origin} {sequence:?} {changed_at_ms:?} {snapshot:?} {unset:?}"
    )
}

/// A change's place in the order of its row, encoded as silver does it.
#[allow(clippy::expect_used, clippy::panic, reason = "a change without its place fails the test")]
pub fn order_of(entity: &EntitySpec, change: &Change) -> Vec<u8> {
    let row = if change.op == Op::Delete { &change.before } else { &change.after };
    let row: Value = serde_json::from_str(row.as_ref().expect("a row").get()).expect("JSON");
    let mut carried = change.sequence.iter();
    let mut builder = SequenceBuilder::default();
    assert!(!entity.sequence_by.is_empty(), "the entity has an order");
    for part in &entity.sequence_by {
        let (kind, unit, value) = match part {
            SequenceBy::Carried { carried: kind, unit } => {
                let value = carried.next().expect("a carried part");
                (*kind, unit.unwrap_or_default(), value.clone())
            }
            SequenceBy::Column(name) => {
                let column = entity.column(name).expect("a declared sequence column");
                let kind = match column.kind {
                    ColumnType::Timestamp | ColumnType::Date => SequenceType::Timestamp,
                    ColumnType::Decimal => SequenceType::Decimal,
                    ColumnType::Byte
                    | ColumnType::Short
                    | ColumnType::Integer
                    | ColumnType::Long => SequenceType::Long,
                    other => panic!("a sequence column of type {other:?}"),
                };
                let value = super::fits::value_at(&row, column).expect("a sequence value");
                (kind, column.counts(), value.clone())
            }
        };
        if let (SequenceType::Timestamp, Some(number)) = (kind, value.as_i64()) {
            builder.timestamp(Instant::from_number(number, unit).expect("a time"));
            continue;
        }
        let text = value.as_str().map_or(value.to_string(), str::to_owned);
        builder.text(kind, &text, &TimeZone::UTC).expect("a part of its type");
    }
    assert!(carried.next().is_none(), "no more parts are carried than declared");
    builder.finish().expect("a sequence").encoded().to_vec()
}
