//! Planning a batch: each key by itself, then all of it as rows to write, rows to delete and
//! alterations of the index.

use std::collections::BTreeMap;

use alluvium_lake::index::{EventMeta, HiddenEntry, IndexError, VersionEntry};
use alluvium_model::{Counts, Op, Outcome, Position, RowsWritten, SequencePart};

use super::gather::{Incoming, KnownKey, Lookup, Source};
use super::plan::{Event, KeyPlan, Kind, Version, Window, holding, plan_key};

/// Where a row's values and its meta columns come from, made plain for writing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values<'a> {
    /// The row of a message.
    Incoming(u32, u32),
    /// Bytes of the row codec.
    Stored(&'a [u8]),
    /// A row of a file, by the file's number in the index.
    File(u32, u32),
}

/// A row to write.
#[derive(Debug)]
pub(super) struct PlannedRow<'a> {
    pub(super) key: u128,
    pub(super) opener: &'a [u8],
    pub(super) opener_at: SequencePart,
    pub(super) opener_op: Op,
    pub(super) shown: &'a [u8],
    pub(super) shown_at: SequencePart,
    pub(super) tracked: u128,
    pub(super) full: u128,
    pub(super) closed_at: Option<SequencePart>,
    pub(super) position: Position,
    pub(super) values: Values<'a>,
    /// The meta of an event applied before; `None` for one of this batch.
    pub(super) meta: Option<EventMeta>,
    /// The message and row of an event of this batch.
    pub(super) incoming: Option<(u32, u32)>,
}

/// An event to remember beside the table.
#[derive(Debug)]
pub(super) struct PlannedHidden<'a> {
    pub(super) key: u128,
    pub(super) sequence: &'a [u8],
    pub(super) at: SequencePart,
    pub(super) hashes: Option<(u128, u128)>,
    pub(super) op: Op,
    pub(super) values: Option<Values<'a>>,
    pub(super) meta: Option<EventMeta>,
    pub(super) incoming: Option<(u32, u32)>,
}

/// What a key's state becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Top {
    /// Its open version stays as it is: the kept version with this index.
    Kept(usize),
    /// Its open version is the planned row with this index.
    New(usize),
    /// It has no open version.
    Closed,
}

/// All that a batch does.
#[derive(Debug, Default)]
pub(super) struct BatchPlan<'a> {
    pub(super) rows: Vec<PlannedRow<'a>>,
    /// Rows of the table that are replaced, by file number.
    pub(super) replaced: BTreeMap<u32, Vec<u32>>,
    /// States of keys: key, highest known sequence, open version.
    pub(super) tops: Vec<(u128, &'a [u8], Top)>,
    /// Open versions that stay as they are, of keys of which more is known now.
    pub(super) kept: Vec<VersionEntry<'a>>,
    /// Closed versions that stand no longer: key and opener.
    pub(super) closed_gone: Vec<(u128, &'a [u8])>,
    pub(super) hidden: Vec<PlannedHidden<'a>>,
    /// Shown events whose operation stands beside the table only, for a rebuild of the index.
    pub(super) told: Vec<PlannedHidden<'a>>,
    /// Hidden events that a version shows now.
    pub(super) hidden_gone: Vec<(u128, HiddenEntry<'a>)>,
    pub(super) counts: Counts,
    pub(super) written: RowsWritten,
}

/// Plans all keys of a batch.
pub(super) fn plan_batch<'a>(
    incoming: &'a Incoming,
    lookup: &'a Lookup,
) -> Result<BatchPlan<'a>, IndexError> {
    let mut plan = BatchPlan::default();
    plan.rows.reserve(lookup.keys());
    plan.tops.reserve(lookup.keys());
    let mut events = Vec::new();
    for (n, group) in incoming.groups().enumerate() {
        let known = lookup.known(n, group, incoming)?;
        if known.all_known {
            plan.counts.add(Outcome::Duplicate, group.len() as u64);
            continue;
        }
        events.clear();
        events.extend(group.iter().map(|(_, m, r)| incoming.event(*m, *r)));
        if let Some(current) = &known.current {
            plan.counts.late += events.iter().filter(|e| e.sequence < current.known).count() as u64;
        }
        let planned = plan_key(window(&known), &events);
        for outcome in &planned.outcomes {
            plan.counts.add(*outcome, 1);
        }
        KeyWriter { key: group[0].0, incoming, known: &known, planned: &planned }
            .write(&mut plan)?;
    }
    Ok(plan)
}

/// What is known of a key, as events.
fn window<'a>(known: &KnownKey<'a>) -> Window<'a, Source> {
    let shown = (0u32..).zip(&known.versions).map(|(i, version)| Event {
        sequence: version.shown,
        at: version.shown_at,
        position: version.meta.position,
        kind: Kind::Upsert { tracked: version.tracked, full: version.full },
        source: Source::Version(i),
    });
    let hidden = (0u32..).zip(&known.hidden).map(|(i, entry)| Event {
        sequence: entry.sequence,
        at: entry.at,
        position: entry.meta.position,
        kind: match entry.hashes {
            Some((tracked, full)) => Kind::Upsert { tracked, full },
            None => Kind::Delete,
        },
        source: Source::Hidden(i),
    });
    let mut events: Vec<_> = shown.collect();
    // An event that a version shows is not hidden too, whatever a side file still says.
    events.extend(hidden.filter(|h| {
        // Versions come in order, and so do the events that they show.
        !known.versions.binary_search_by_key(&h.sequence, |v| v.shown).is_ok_and(|at| {
            let v = &known.versions[at];
            h.kind == Kind::Upsert { tracked: v.tracked, full: v.full }
        })
    }));
    Window { events }
}

/// Turns the plan of one key into what must be written.
struct KeyWriter<'a, 'k> {
    key: u128,
    incoming: &'a Incoming,
    known: &'k KnownKey<'a>,
    planned: &'k KeyPlan<'a, Source>,
}

impl<'a> KeyWriter<'a, '_> {
    fn write(&self, plan: &mut BatchPlan<'a>) -> Result<(), IndexError> {
        let mut kept = vec![false; self.known.versions.len()];
        let mut top = Top::Closed;
        let mut new_closed: Vec<&[u8]> = Vec::new();
        for version in &self.planned.versions {
            match self.standing(version) {
                Some(at) => {
                    kept[at] = true;
                    if version.closer.is_none() {
                        top = Top::Kept(plan.kept.len());
                        plan.kept.push(self.known.versions[at]);
                    }
                }
                None => {
                    let row = self.row(version)?;
                    if row.closed_at.is_none() {
                        top = Top::New(plan.rows.len());
                    } else {
                        new_closed.push(row.opener);
                    }
                    self.count(version, &mut plan.written);
                    self.tell(version, plan);
                    plan.rows.push(row);
                }
            }
        }
        for (version, kept) in self.known.versions.iter().zip(kept) {
            if !kept {
                plan.replaced.entry(version.file).or_default().push(version.row);
                if version.closed_at.is_some() && new_closed.binary_search(&version.opener).is_err()
                {
                    plan.closed_gone.push((self.key, version.opener));
                }
            }
        }
        self.hide(plan)?;
        let highest = self.planned.events.last().map_or(&[][..], |event| event.sequence);
        let known = self.known.current.map_or(&[][..], |current| current.known).max(highest);
        plan.tops.push((self.key, known, top));
        Ok(())
    }

    /// The known version that stands in the table just as `version` must.
    fn standing(&self, version: &Version) -> Option<usize> {
        let Source::Version(at) = self.planned.events[version.shown].source else { return None };
        let entry = &self.known.versions[at as usize];
        let opener = &self.planned.events[version.opener];
        let closed_at = version.closer.map(|closer| self.planned.events[closer].at);
        // Another event may have won the opener's place, with another operation.
        let same = entry.opener == opener.sequence
            && entry.opener_op == self.op(opener.source)
            && entry.closed_at == closed_at;
        same.then_some(at as usize)
    }

    /// Counts a row as opened if nothing stood for its opener, as closed if only its end is new.
    fn count(&self, version: &Version, written: &mut RowsWritten) {
        let opener = self.planned.events[version.opener].sequence;
        match self.known.versions.binary_search_by_key(&opener, |entry| entry.opener) {
            Err(_) => written.opened += 1,
            Ok(at) if self.known.versions[at].closed_at.is_none() && version.closer.is_some() => {
                written.closed += 1;
            }
            Ok(_) => written.rewritten += 1,
        }
    }

    fn row(&self, version: &Version) -> Result<PlannedRow<'a>, IndexError> {
        let (opener, shown) =
            (&self.planned.events[version.opener], &self.planned.events[version.shown]);
        let Kind::Upsert { tracked, full } = shown.kind else { return Err(IndexError::Damaged) };
        Ok(PlannedRow {
            key: self.key,
            opener: opener.sequence,
            opener_at: opener.at,
            opener_op: self.op(opener.source),
            shown: shown.sequence,
            shown_at: shown.at,
            tracked,
            full,
            closed_at: version.closer.map(|closer| self.planned.events[closer].at),
            position: shown.position,
            values: self.values(shown)?,
            meta: self.meta(shown.source),
            incoming: incoming_row(shown.source),
        })
    }

    /// Remembers events that no version shows, and forgets those that one shows now.
    fn hide(&self, plan: &mut BatchPlan<'a>) -> Result<(), IndexError> {
        for at in &self.planned.hidden {
            let event = &self.planned.events[*at];
            let values = match event.kind {
                Kind::Upsert { full, .. } if !self.is_shown_in_its_run(*at, full) => {
                    Some(self.values(event)?)
                }
                _ => None,
            };
            // One that is hidden already is written anew only if the version that told its values
            // tells them no longer.
            let written = match event.source {
                Source::Hidden(h) => {
                    values.is_none() || self.known.hidden[h as usize].values.is_some()
                }
                _ => false,
            };
            if !written {
                plan.hidden.push(self.event(event, values));
            }
        }
        for version in &self.planned.versions {
            if let Source::Hidden(h) = self.planned.events[version.shown].source {
                plan.hidden_gone.push((self.key, self.known.hidden[h as usize]));
            }
        }
        Ok(())
    }

    /// What the table cannot tell of a version that shows another event than the one that opened
    /// it: that event's own operation.
    fn tell(&self, version: &Version, plan: &mut BatchPlan<'a>) {
        let (opener, shown) =
            (&self.planned.events[version.opener], &self.planned.events[version.shown]);
        let told = match shown.source {
            Source::Incoming(..) => false,
            Source::Version(v) => {
                let entry = &self.known.versions[v as usize];
                entry.opener != entry.shown && entry.opener_op != entry.meta.op
            }
            Source::Hidden(_) => true,
        };
        if version.opener != version.shown
            && !told
            && self.op(opener.source) != self.op(shown.source)
        {
            plan.told.push(self.event(shown, None));
        }
    }

    /// An event as it is remembered beside the table.
    fn event(&self, event: &Event<'a, Source>, values: Option<Values<'a>>) -> PlannedHidden<'a> {
        PlannedHidden {
            key: self.key,
            sequence: event.sequence,
            at: event.at,
            hashes: match event.kind {
                Kind::Upsert { tracked, full } => Some((tracked, full)),
                Kind::Delete => None,
            },
            op: self.op(event.source),
            values,
            meta: self.meta(event.source),
            incoming: incoming_row(event.source),
        }
    }

    /// Whether the run that the event at `at` belongs to shows the same values.
    fn is_shown_in_its_run(&self, at: usize, full: u128) -> bool {
        let wins = self
            .planned
            .events
            .get(at + 1)
            .is_none_or(|next| next.sequence != self.planned.events[at].sequence);
        let shown = holding(&self.planned.versions, at).map(|version| version.shown);
        wins && shown.is_some_and(|shown| {
            matches!(self.planned.events[shown].kind, Kind::Upsert { full: shown, .. } if shown == full)
        })
    }

    fn op(&self, source: Source) -> Op {
        match source {
            Source::Incoming(m, r) => self.incoming.row(m, r).2.op,
            Source::Version(i) => self.known.versions[i as usize].meta.op,
            Source::Hidden(i) => self.known.hidden[i as usize].meta.op,
        }
    }

    fn meta(&self, source: Source) -> Option<EventMeta> {
        match source {
            Source::Incoming(..) => None,
            Source::Version(i) => Some(self.known.versions[i as usize].meta),
            Source::Hidden(i) => Some(self.known.hidden[i as usize].meta),
        }
    }

    /// Where the values of an event are; those of a hidden member of a run are with another event
    /// that says the same.
    fn values(&self, event: &Event<'a, Source>) -> Result<Values<'a>, IndexError> {
        if let Some(values) = self.own_values(event.source) {
            return Ok(values);
        }
        let same = |other: &&Event<'a, Source>| match (event.kind, other.kind) {
            (Kind::Upsert { full: a, .. }, Kind::Upsert { full: b, .. }) => a == b,
            _ => false,
        };
        let mut others = self.planned.events.iter().filter(same);
        others.find_map(|other| self.own_values(other.source)).ok_or(IndexError::Damaged)
    }

    fn own_values(&self, source: Source) -> Option<Values<'a>> {
        match source {
            Source::Incoming(m, r) => Some(Values::Incoming(m, r)),
            Source::Version(i) => {
                let entry = &self.known.versions[i as usize];
                Some(if entry.closed_at.is_none() {
                    Values::Stored(entry.values)
                } else {
                    Values::File(entry.file, entry.row)
                })
            }
            Source::Hidden(i) => self.known.hidden[i as usize].values.map(Values::Stored),
        }
    }
}

fn incoming_row(source: Source) -> Option<(u32, u32)> {
    match source {
        Source::Incoming(m, r) => Some((m, r)),
        Source::Version(_) | Source::Hidden(_) => None,
    }
}
