//! From the plan of one key to what must be written for it.

use alluvium_lake::index::{IndexError, VersionEntry};
use alluvium_model::{Op, RowsWritten};

use super::batch::{BatchPlan, KeyState, Origin, PlannedHidden, PlannedRow, Top, Values};
use super::closing::Closings;
use super::gather::{Incoming, Source};
use super::known::KnownKey;
use super::plan::{Event, KeyPlan, Kind, Version, holding};

/// Turns the plan of one key into what must be written.
pub(super) struct KeyWriter<'a, 'k> {
    pub(super) key: u128,
    pub(super) incoming: &'a Incoming,
    pub(super) known: &'k KnownKey<'a>,
    pub(super) planned: &'k KeyPlan<'a, Source>,
    pub(super) closings: &'a Closings,
    /// The completed row of an event that came without some columns.
    pub(super) completed: &'k dyn Fn(Source) -> Option<u32>,
}

impl<'a> KeyWriter<'a, '_> {
    pub(super) fn write(&self, plan: &mut BatchPlan<'a>) -> Result<(), IndexError> {
        let mut kept = vec![false; self.known.versions.len()];
        let mut top = Top::Closed;
        let mut new_closed: Vec<&[u8]> = Vec::new();
        for version in &self.planned.versions {
            if let Some(at) = self.standing(version) {
                kept[at] = true;
                if version.closer.is_none() {
                    top = Top::Kept(plan.kept.len());
                    plan.kept.push(self.known.versions[at]);
                }
                continue;
            }
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
        plan.states.push(self.state(top));
        Ok(())
    }

    /// The key's state after the batch.
    fn state(&self, top: Top) -> KeyState<'a> {
        let highest = self.planned.events.last().map_or(&[][..], |event| event.sequence);
        let (before, was_read) =
            self.known.current.map_or((&[][..], false), |current| (current.known, current.read));
        let mut last = self.planned.events.iter().rev();
        let mut last = last.by_ref().take_while(|event| event.sequence == highest);
        let read = last.any(|event| matches!(event.kind, Kind::Upsert { read: true, .. }));
        KeyState {
            key: self.key,
            known: before.max(highest),
            read: if highest >= before { read } else { was_read },
            completed: self.planned.versions.last().is_some_and(|version| {
                let shown = self.planned.events[version.told()].source;
                version.closer.is_none() && (self.is_partial(shown) || self.has_twin(shown))
            }),
            top,
        }
    }

    /// The known version that stands in the table just as `version` must.
    fn standing(&self, version: &Version) -> Option<usize> {
        let (opener, told) =
            (&self.planned.events[version.opener], &self.planned.events[version.told()]);
        let at = self.known.version_opened_at(opener.sequence)?;
        let entry = &self.known.versions[at];
        // Another event may have won the opener's place, with another operation.
        let same = entry.opener_op == self.op(opener.source)
            && entry.shown == told.sequence
            && entry.hashes == version.row
            && entry.meta.position == told.position
            && entry.closed_at == version.closer.map(|closer| self.planned.events[closer].at);
        same.then_some(at)
    }

    /// Counts a row as opened if nothing stood for its opener, as closed if only its end is new.
    fn count(&self, version: &Version, written: &mut RowsWritten) {
        let opener = self.planned.events[version.opener].sequence;
        match self.known.version_opened_at(opener) {
            None => written.opened += 1,
            Some(at) if self.known.versions[at].closed_at.is_none() && version.closer.is_some() => {
                written.closed += 1;
            }
            Some(_) => written.rewritten += 1,
        }
    }

    fn row(&self, version: &Version) -> Result<PlannedRow<'a>, IndexError> {
        let (opener, told) =
            (&self.planned.events[version.opener], &self.planned.events[version.told()]);
        Ok(PlannedRow {
            key: self.key,
            opener: opener.sequence,
            opener_at: opener.at,
            opener_op: self.op(opener.source),
            shown: told.sequence,
            shown_at: told.at,
            hashes: version.row,
            closed_at: version.closer.map(|closer| self.planned.events[closer].at),
            position: told.position,
            values: self.values(&self.planned.events[version.shown], version.row.full)?,
            origin: self.origin(told.source),
        })
    }

    /// Remembers events that the table does not tell of, and forgets those that it tells of now.
    fn hide(&self, plan: &mut BatchPlan<'a>) -> Result<(), IndexError> {
        for at in &self.planned.hidden {
            let event = &self.planned.events[*at];
            if self.is_partial(event.source) || self.has_twin(event.source) {
                continue;
            }
            let values = match event.kind {
                Kind::Upsert { row, .. } if !self.is_shown_in_its_run(*at, row.full) => {
                    Some(self.values(event, row.full)?)
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
        // One that came without some columns is remembered with what it said, shown or not.
        for event in &self.planned.events {
            if let (Source::Incoming(m, r), true) = (event.source, self.is_partial(event.source)) {
                plan.hidden.push(self.event(event, Some(Values::Incoming(m, r))));
            }
        }
        for version in &self.planned.versions {
            let told = self.planned.events[version.told()].source;
            if let (Source::Hidden(h), false) = (told, self.is_partial(told)) {
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
        if version.tombstone || version.opener == version.shown || self.is_partial(shown.source) {
            return;
        }
        let told = match shown.source {
            Source::Version(v) => {
                let entry = &self.known.versions[v as usize];
                entry.opener != entry.shown && entry.opener_op != entry.meta.op
            }
            Source::Hidden(_) => true,
            _ => false,
        };
        if !told && self.op(opener.source) != self.op(shown.source) {
            plan.told.push(self.event(shown, None));
        }
    }

    /// An event as it is remembered beside the table.
    fn event(&self, event: &Event<'a, Source>, values: Option<Values<'a>>) -> PlannedHidden<'a> {
        let said = match event.source {
            Source::Incoming(m, r) => Some(self.incoming.row(m, r).2.hashes),
            _ => None,
        };
        PlannedHidden {
            key: self.key,
            sequence: event.sequence,
            at: event.at,
            hashes: match event.kind {
                Kind::Upsert { row, .. } => Some(said.unwrap_or(row)),
                Kind::Delete(_) | Kind::Absent { .. } => None,
            },
            unset: self.incoming.unset(event.source),
            op: self.op(event.source),
            values,
            origin: self.origin(event.source),
        }
    }

    /// Whether the run that the event at `at` belongs to shows the same values.
    fn is_shown_in_its_run(&self, at: usize, full: u128) -> bool {
        let events = &self.planned.events;
        let wins = events.get(at + 1).is_none_or(|next| next.sequence != events[at].sequence);
        // Values that a later event completed may change with what comes before it.
        let tells = |version: &Version| {
            let shown = events[version.shown].source;
            let may_change = self.is_partial(shown) || self.has_twin(shown);
            !version.tombstone && version.row.full == full && !may_change
        };
        wins && holding(&self.planned.versions, at).is_some_and(tells)
    }

    /// Whether the event is remembered already, with what it said before it was completed.
    fn has_twin(&self, source: Source) -> bool {
        match source {
            Source::Version(i) => {
                self.known.partial_twin(&self.known.versions[i as usize]).is_some()
            }
            _ => false,
        }
    }

    /// Whether the event came without some of its columns.
    fn is_partial(&self, source: Source) -> bool {
        match source {
            Source::Hidden(h) => !self.known.hidden[h as usize].unset.is_empty(),
            other => !self.incoming.unset(other).is_empty(),
        }
    }

    fn op(&self, source: Source) -> Op {
        match source {
            Source::Incoming(m, r) => self.incoming.row(m, r).2.op,
            Source::Moved(..) | Source::Closing(_) => Op::Delete,
            Source::Version(i) => self.known.versions[i as usize].meta.op,
            Source::Hidden(i) => self.known.hidden[i as usize].meta.op,
        }
    }

    fn origin(&self, source: Source) -> Origin {
        match source {
            Source::Incoming(m, r) => Origin::Incoming(m, r),
            Source::Moved(m, r) => Origin::Moved(m, r),
            Source::Closing(n) => Origin::Closing(n),
            Source::Version(i) => Origin::Known(self.known.versions[i as usize].meta),
            Source::Hidden(i) => Origin::Known(self.known.hidden[i as usize].meta),
        }
    }

    /// Where the values of an event are; those of a hidden member of a run are with another event
    /// that says the same.
    fn values(&self, event: &Event<'a, Source>, full: u128) -> Result<Values<'a>, IndexError> {
        if let Some(row) = (self.completed)(event.source) {
            return Ok(Values::Completed(row));
        }
        own_values(self.known, self.closings, event)
            .or_else(|| values_like(self.known, self.closings, &self.planned.events, full))
            .ok_or(IndexError::Damaged)
    }
}

/// The values of any of `events` that has these.
pub(super) fn values_like<'a>(
    known: &KnownKey<'a>,
    closings: &Closings,
    events: &[Event<'a, Source>],
    full: u128,
) -> Option<Values<'a>> {
    let same = |event: &&Event<'a, Source>| match event.kind {
        Kind::Upsert { says, .. } => says == full,
        Kind::Delete(stands) | Kind::Absent { stands, .. } => {
            stands.is_some_and(|row| row.full == full)
        }
    };
    events.iter().filter(same).find_map(|event| own_values(known, closings, event))
}

/// The values that stand with an event itself.
pub(super) fn own_values<'a>(
    known: &KnownKey<'a>,
    closings: &Closings,
    event: &Event<'a, Source>,
) -> Option<Values<'a>> {
    let of_version = |entry: &VersionEntry<'a>| {
        if entry.closed_at.is_none() {
            Values::Stored(entry.values)
        } else {
            Values::File(entry.file, entry.row)
        }
    };
    match event.source {
        Source::Incoming(m, r) => Some(Values::Incoming(m, r)),
        Source::Moved(..) => None,
        Source::Version(i) => Some(of_version(&known.versions[i as usize])),
        Source::Hidden(i) => known.hidden[i as usize].values.map(Values::Stored),
        Source::Closing(n) => {
            let sequence = closings.all()[n as usize].sequence.as_slice();
            known.version_opened_at(sequence).map(|at| of_version(&known.versions[at]))
        }
    }
}
