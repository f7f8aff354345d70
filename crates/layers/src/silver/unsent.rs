//! Columns that a source did not send keep the value that they had before, in the order of the
//! sequence. So the row of such an event depends on the events before it, and is completed anew
//! whenever one of those comes late.
//!
//! Only keys that have such events are looked at here; all others pass by.

use std::collections::HashMap;

use alluvium_lake::Table;
use alluvium_lake::index::{Hashes, IndexError, RowCodec};
use alluvium_model::StageError;

use super::batch::Values;
use super::closing::Closings;
use super::files::FileNumbers;
use super::gather::{Incoming, Lookup, Source};
use super::key::{own_values, values_like};
use super::known::KnownKey;
use super::plan::{Event, Kind, in_order, winner};
use super::values::{Place, ValueSources};
use super::{index_error, reading_error};
use crate::decode::RowDecoder;

/// The completed rows of a batch.
#[derive(Default)]
pub(super) struct Completed {
    rows: HashMap<(usize, Source), (u32, Hashes)>,
}

impl Completed {
    /// The completed row of an event of the `n`-th key.
    pub(super) fn row(&self, n: usize, source: Source) -> Option<u32> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(&(n, source)).map(|(row, _)| *row)
    }

    /// Tells the events of the `n`-th key what their rows are, completed.
    pub(super) fn complete<'e, 'a: 'e>(
        &self,
        n: usize,
        events: impl Iterator<Item = &'e mut Event<'a, Source>>,
    ) {
        if self.rows.is_empty() {
            return;
        }
        for event in events {
            let found = self.rows.get(&(n, event.source));
            if let (Some((_, hashes)), Kind::Upsert { row, .. }) = (found, &mut event.kind) {
                *row = *hashes;
            }
        }
    }
}

/// What completing needs besides the keys.
pub(super) struct Completer<'c> {
    pub(super) decoder: &'c RowDecoder,
    pub(super) codec: &'c RowCodec,
    pub(super) table: &'c Table,
    pub(super) numbers: &'c FileNumbers,
    pub(super) closings: &'c Closings,
}

/// A row to complete: for each column, where its value is; `None` for null.
struct Row {
    of: (usize, Source),
    columns: Vec<Option<Place>>,
}

impl Completer<'_> {
    /// Completes the rows of all events that came without some columns. Their values are in
    /// `sources` afterwards.
    pub(super) async fn complete(
        &self,
        incoming: &Incoming,
        lookup: &Lookup,
        sources: &mut ValueSources,
        index: &alluvium_lake::index::KeyIndex,
    ) -> Result<Completed, StageError> {
        let mut keys = Vec::new();
        for (n, work) in lookup.work.iter().enumerate() {
            let known = lookup.known(work, incoming).map_err(|e| reading_error(index, e))?;
            let places = &incoming.places()[work.rows.clone()];
            let new: Vec<_> = places.iter().map(|place| incoming.event(place)).collect();
            let partial = new.iter().any(|event| !incoming.unset(event.source).is_empty());
            if partial || known.is_partial() {
                keys.push(Key::new(n, known, &work.earliest, new, self.closings)?);
            }
        }
        if keys.is_empty() {
            return Ok(Completed::default());
        }
        let wanted: Vec<Values<'_>> =
            keys.iter().flat_map(|key| key.values.iter().flatten().copied()).collect();
        sources.load(&wanted, self.codec, self.table, self.numbers).await?;
        let mut rows = Vec::new();
        for key in &keys {
            key.complete(self.decoder, incoming, sources, &mut rows)?;
        }
        self.write(&rows, sources)
    }

    /// Makes the rows, and takes their hashes.
    fn write(&self, rows: &[Row], sources: &mut ValueSources) -> Result<Completed, StageError> {
        let columns: Vec<&[Option<Place>]> = rows.iter().map(|r| r.columns.as_slice()).collect();
        let batch = sources.patched(self.codec.schema(), &columns)?;
        let mut completed = Completed::default();
        for (at, row) in (0u32..).zip(rows) {
            let hashes = self.decoder.hashes_of(batch.columns(), at as usize);
            completed.rows.insert(row.of, (at, hashes));
        }
        sources.completed(batch);
        Ok(completed)
    }
}

/// A key with events that came without some columns.
struct Key<'a> {
    n: usize,
    known: KnownKey<'a>,
    events: Vec<Event<'a, Source>>,
    /// Where the values of each event are, of those that have any.
    values: Vec<Option<Values<'a>>>,
}

impl<'a> Key<'a> {
    fn new(
        n: usize,
        known: KnownKey<'a>,
        earliest: &[u8],
        new: Vec<Event<'a, Source>>,
        closings: &'a Closings,
    ) -> Result<Self, StageError> {
        let window = known.events(closings, earliest);
        let events: Vec<_> = in_order(window, &new).into_iter().map(|(event, _)| event).collect();
        let values = events.iter().map(|event| match event.kind {
            Kind::Upsert { says, .. } => own_values(&known, closings, event)
                .or_else(|| values_like(&known, closings, &events, says))
                .ok_or(IndexError::Damaged)
                .map(Some),
            _ => Ok(None),
        });
        let values = values.collect::<Result<Vec<_>, _>>().map_err(index_error)?;
        Ok(Self { n, known, events, values })
    }

    fn unset<'e>(&'e self, event: &Event<'a, Source>, incoming: &'e Incoming) -> &'e [u8] {
        match event.source {
            Source::Hidden(h) => self.known.hidden[h as usize].unset,
            other => incoming.unset(other),
        }
    }

    /// Goes through the events in order, and notes the rows that must be completed.
    fn complete(
        &self,
        decoder: &RowDecoder,
        incoming: &Incoming,
        sources: &ValueSources,
        rows: &mut Vec<Row>,
    ) -> Result<(), StageError> {
        let width = decoder.schema().fields().len();
        let mut before: Option<(Vec<Option<Place>>, u64)> = None;
        let mut from = 0;
        for group in self.events.chunk_by(|a, b| a.sequence == b.sequence) {
            let range = from..from + group.len();
            from = range.end;
            let wins =
                winner(&self.events, range.clone(), before.as_ref().map(|(_, scope)| *scope));
            let mut after = before.clone();
            for at in range {
                let event = &self.events[at];
                let Kind::Upsert { row, .. } = event.kind else {
                    if wins == Some(at) {
                        after = None;
                    }
                    continue;
                };
                let place = self.values[at].and_then(|values| sources.place(values));
                let place =
                    place.ok_or_else(|| StageError::Bug("an event has no values".into()))?;
                let mut columns = vec![Some(place); width];
                let unset = self.unset(event, incoming);
                for column in decoder.columns_of(unset) {
                    columns[column] = before.as_ref().and_then(|(row, _)| row[column]);
                }
                if let Some((row, _)) = &before {
                    keep_dropped(decoder, unset, row, &mut columns, sources);
                }
                if !unset.is_empty() {
                    rows.push(Row { of: (self.n, event.source), columns: columns.clone() });
                }
                if wins == Some(at) {
                    after = Some((columns, row.scope));
                }
            }
            before = after;
        }
        Ok(())
    }
}

/// A column that the source has dropped is no change: a row that is equal otherwise keeps what was
/// there. On another row it is null.
fn keep_dropped(
    decoder: &RowDecoder,
    unset: &[u8],
    before: &[Option<Place>],
    columns: &mut [Option<Place>],
    sources: &ValueSources,
) {
    let dropped: Vec<usize> = decoder.dropped_of(unset).collect();
    if dropped.is_empty() {
        return;
    }
    let cell = |row: &[Option<Place>], at: usize| row[at].map(|place| sources.cell(at, place));
    if decoder.is_equal_but(&dropped, |at| cell(before, at), |at| cell(columns, at)) {
        for at in dropped {
            columns[at] = before[at];
        }
    }
}
