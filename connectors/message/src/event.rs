//! From a message to records. Pure: the place that it is given is all that it remembers.

use alluvium_model::{Change, Control, EntitySpec, Op, Record, SourceError};
use alluvium_wire::{ChangeView, Line, Path, extract};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use xxhash_rust::xxh3::xxh3_64;

use crate::cursor::{Passed, Place};
use crate::key;
use crate::log::{Arrived, MARK};
use crate::order::{At, Order, has_date};
use crate::pieces::pieces;
use crate::settings::MessageEntity;
use crate::shape::{Own, Shapes, Told};

/// How the messages of one entity become records.
pub(crate) struct Reading<'e> {
    entity: &'e EntitySpec,
    topic: &'e str,
    most_bytes: u64,
    shapes: Shapes,
    order: Order,
    keys: Vec<String>,
}

/// Where a change stood: what the wire carries as `source.origin`.
#[derive(Serialize)]
struct Origin<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    partition: i32,
    offset: i64,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a RawValue>,
}

/// A record on its way: its message, and its place.
struct Piece<'m> {
    message: &'m Arrived,
    key: Option<&'m RawValue>,
    at: At,
}

impl<'e> Reading<'e> {
    pub(crate) fn new(
        entity: &'e EntitySpec,
        topic: &'e str,
        settings: &MessageEntity,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            entity,
            topic,
            most_bytes: settings.max_message_bytes,
            shapes: Shapes::new(settings)?,
            order: Order::of(entity),
            keys: key::names(entity),
        })
    }

    /// Adds the records of a message, and moves the place after it.
    pub(crate) fn records(
        &self,
        message: &Arrived,
        place: &mut Place,
        passed: &mut Passed,
        records: &mut Vec<Record>,
    ) {
        let time_us = place.advance(message.time());
        place.next = message.offset + 1;
        if message.headers.get(MARK).is_some() {
            passed.controls += 1;
            return;
        }
        let deleted = place.deleted.take();
        let key = message.key.as_deref().and_then(key::parse);
        let at = |index| {
            let (partition, offset) = (message.partition, message.offset);
            At { time_us, partition, offset, index }
        };
        let piece = |index| Piece { message, key: key.as_deref(), at: at(index) };
        let Some(value) = message.value.as_deref().filter(|value| !value.is_empty()) else {
            records.extend(self.tombstone(&piece(0), deleted, passed));
            return;
        };
        if message.bytes() > self.most_bytes {
            let text = format!("a message of {} bytes, left out: too large", message.bytes());
            records.push(self.poison(&piece(0), text.as_bytes()));
            return;
        }
        let Ok(own) = Own::of(&message.headers).transpose() else {
            return records.push(self.poison(&piece(0), value));
        };
        for (index, bytes) in (0..).zip(pieces(value, &message.headers)) {
            let piece = piece(index);
            let record = match self.shapes.read(bytes, own.as_ref()) {
                Ok(Told { line: Line::Change(change), envelope }) => {
                    if change.op == Op::Delete && envelope.is_some() {
                        place.deleted = message.key.as_deref().map(hash);
                    }
                    let change = self.change(&piece, change, envelope);
                    Some(change.unwrap_or_else(|| self.poison(&piece, bytes)))
                }
                Ok(Told { line: Line::Control(control), .. }) => self.control(control, passed),
                Ok(Told { line: Line::Tombstone, .. }) => {
                    self.tombstone(&piece, deleted.clone(), passed)
                }
                Err(_) => Some(self.poison(&piece, bytes)),
            };
            records.extend(record);
        }
    }

    /// A delete of the key, but where Debezium's delete before it has said so already.
    fn tombstone(
        &self,
        piece: &Piece<'_>,
        deleted: Option<String>,
        passed: &mut Passed,
    ) -> Option<Record> {
        let Some(bytes) = &piece.message.key else {
            // `null` says nothing of any row; a message with neither key nor value should be seen.
            if piece.message.value.as_ref().is_none_or(Vec::is_empty) {
                return Some(self.poison(piece, b""));
            }
            passed.tombstones += 1;
            return None;
        };
        if deleted == Some(hash(bytes)) {
            passed.tombstones += 1;
            return None;
        }
        let row = piece.key.and_then(|key| key::row(key, &self.keys));
        let Some(row) = row else { return Some(self.poison(piece, bytes)) };
        let own = alluvium_wire::Parts::default();
        Some(Record::Change(Change {
            sequence: self.order.sequence(piece.at, &own),
            changed_at_ms: piece.changed_at_ms(),
            origin: self.origin(piece, None),
            ..Change::delete(row)
        }))
    }

    /// `None` for a delete that does not tell what is deleted.
    fn change(
        &self,
        piece: &Piece<'_>,
        view: ChangeView<'_>,
        envelope: Option<&RawValue>,
    ) -> Option<Record> {
        let row = view.row.map(ToOwned::to_owned);
        let row = match (view.op, row) {
            (Op::Truncate, _) => None,
            (Op::Delete, None) if view.key.is_empty() => Some(key::row(piece.key?, &self.keys)?),
            (_, row) => {
                let row =
                    row.unwrap_or_else(|| RawValue::from_string("{}".into()).unwrap_or_default());
                Some(self.with_key(row, &view, piece))
            }
        };
        let changed_at_ms = view.changed_at_ms;
        let changed_at_ms = changed_at_ms.filter(|ms| ms.checked_mul(1000).is_some_and(has_date));
        let is_delete = view.op == Op::Delete;
        let before = view.before.map(ToOwned::to_owned).filter(|_| view.op != Op::Truncate);
        let (before, after) = if is_delete { (row, None) } else { (before, row) };
        Some(Record::Change(Change {
            op: view.op,
            before,
            after,
            sequence: self.order.sequence(piece.at, &view.sequence),
            changed_at_ms: changed_at_ms.or_else(|| piece.changed_at_ms()),
            snapshot: view.snapshot.map(|snapshot| snapshot.into_owned()),
            unset: view.unset.into_iter().map(|name| name.into_owned()).collect(),
            old_key: view.old_key.map(ToOwned::to_owned),
            origin: self.origin(piece, envelope),
        }))
    }

    /// The row with its key, which a mapping or the message may have beside it.
    fn with_key(
        &self,
        row: Box<RawValue>,
        view: &ChangeView<'_>,
        piece: &Piece<'_>,
    ) -> Box<RawValue> {
        if view.key.is_empty() {
            return key::completed(row, piece.key, &self.keys);
        }
        let lacks = |name: &str| extract(&row, &Path::member(name)).is_none();
        let parts = self.entity.keys.iter().map(String::as_str).zip(view.key.iter());
        let parts: Vec<_> = parts.filter(|(n, _)| lacks(n)).map(|(n, part)| (n, &**part)).collect();
        key::spliced(row, &parts)
    }

    /// What another platform says of its rows. A snapshot's end counts only where the rows carry the
    /// sequence that it speaks of; an operator's decisions are about positions of another topic.
    fn control(&self, control: Control, passed: &mut Passed) -> Option<Record> {
        let means = match &control {
            Control::SnapshotEnd { .. } => self.order == Order::Source,
            Control::Schema { .. } => true,
            Control::Decision { .. } => false,
        };
        passed.controls += u64::from(!means);
        means.then_some(Record::Control(control))
    }

    /// Bytes that are no change: a row that is a text, which a layer puts into quarantine.
    fn poison(&self, piece: &Piece<'_>, bytes: &[u8]) -> Record {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("data:application/octet-stream;base64,{}", BASE64.encode(bytes)),
        };
        let row = to_raw_value(&text).unwrap_or_default();
        Record::Change(Change {
            sequence: if self.order == Order::Place { piece.at.sequence() } else { Vec::new() },
            changed_at_ms: piece.changed_at_ms(),
            origin: self.origin(piece, None),
            ..Change::upsert(row)
        })
    }

    fn origin(&self, piece: &Piece<'_>, envelope: Option<&RawValue>) -> Option<Box<RawValue>> {
        let source = envelope.and_then(|envelope| extract(envelope, &Path::member("source")));
        let At { partition, offset, index, .. } = piece.at;
        let subject = piece.message.subject.as_deref();
        let origin = Origin {
            topic: self.topic,
            subject,
            partition,
            offset,
            index,
            source: source.filter(|source| source.get().starts_with('{')),
        };
        to_raw_value(&origin).ok()
    }
}

impl Piece<'_> {
    fn changed_at_ms(&self) -> Option<i64> {
        self.message.time().map(|us| us.div_euclid(1000))
    }
}

fn hash(key: &[u8]) -> String {
    format!("{:016x}", xxh3_64(key))
}
