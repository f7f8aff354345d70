//! What is known of one key, as events to plan from.

use alluvium_lake::index::{CurrentEntry, HiddenEntry, IndexError, KeyWindow, VersionEntry};
use alluvium_model::Op;

use super::closing::Closings;
use super::gather::Source;
use super::plan::{Event, Kind, Window};

/// What is known of one key, borrowed from a lookup.
#[derive(Default)]
pub(super) struct KnownKey<'a> {
    pub(super) current: Option<CurrentEntry<'a>>,
    /// Versions of the window by their openers: closed ones, then the open one.
    pub(super) versions: Vec<VersionEntry<'a>>,
    pub(super) hidden: Vec<HiddenEntry<'a>>,
    /// Whether the index was asked for more than the key's state.
    windowed: bool,
    /// Whether all incoming rows are the event that the open version shows.
    pub(super) all_known: bool,
}

impl<'a> KnownKey<'a> {
    pub(super) fn load(
        current: CurrentEntry<'a>,
        window: Option<&'a KeyWindow>,
    ) -> Result<Self, IndexError> {
        let mut known = Self { current: Some(current), ..Self::default() };
        if let Some(window) = window {
            known.windowed = true;
            for entry in &window.closed {
                known.versions.push(VersionEntry::parse(entry).ok_or(IndexError::Damaged)?);
            }
            for entry in &window.hidden {
                known.hidden.push(HiddenEntry::parse(entry).ok_or(IndexError::Damaged)?);
            }
        }
        known.versions.extend(current.open);
        Ok(known)
    }

    /// The version that an event opened, if one stands.
    pub(super) fn version_opened_at(&self, sequence: &[u8]) -> Option<usize> {
        self.versions.binary_search_by_key(&sequence, |version| version.opener).ok()
    }

    /// Whether events were given without all their columns.
    pub(super) fn is_partial(&self) -> bool {
        self.hidden.iter().any(|entry| !entry.unset.is_empty())
    }

    /// What is known as events, with the closings of the entity that may concern the key. Nothing
    /// before `earliest` is new.
    pub(super) fn events<'e>(&self, closings: &'e Closings, earliest: &[u8]) -> Window<'e, Source>
    where
        'a: 'e,
    {
        let concerning = self.closings(closings, earliest);
        let mut events: Vec<Event<'e, Source>> = Vec::with_capacity(self.versions.len() + 1);
        for (n, version) in (0u32..).zip(&self.versions) {
            if let Some(event) = self.version_event(n, version, closings, &concerning, earliest) {
                events.push(event);
            }
        }
        for (n, entry) in (0u32..).zip(&self.hidden) {
            if !self.is_told(entry, earliest) {
                events.push(hidden_event(n, entry));
            }
        }
        for n in concerning {
            events.push(self.closing_event(n, closings));
        }
        Window { events }
    }

    fn version_event<'e>(
        &self,
        n: u32,
        version: &VersionEntry<'a>,
        closings: &Closings,
        concerning: &std::ops::Range<usize>,
        earliest: &[u8],
    ) -> Option<Event<'e, Source>>
    where
        'a: 'e,
    {
        let kind = if version.opener_op == Op::Delete {
            // A closing that stands as a row is no event of the key.
            let mut mine = closings.at(version.opener).filter(|n| concerning.contains(n));
            if mine.any(|n| closings.all()[n].position == version.meta.position) {
                return None;
            }
            Kind::Delete(Some(version.hashes))
        } else {
            if self.partial_twin(version).is_some() && !self.is_base(version, earliest) {
                return None;
            }
            let read = version.meta.op == Op::Read;
            Kind::Upsert { row: version.hashes, says: version.hashes.full, read }
        };
        Some(Event {
            sequence: version.shown,
            at: version.shown_at,
            position: version.meta.position,
            kind,
            source: Source::Version(n),
        })
    }

    /// The remembered event whose row, completed, a version shows.
    pub(super) fn partial_twin(&self, version: &VersionEntry<'a>) -> Option<&HiddenEntry<'a>> {
        let first = self.hidden.partition_point(|entry| entry.sequence < version.shown);
        let mut same = self.hidden[first..].iter().take_while(|e| e.sequence == version.shown);
        same.find(|entry| is_twin(entry, version))
    }

    /// Whether a version stands for all that was before: nothing that is new reaches behind it.
    fn is_base(&self, version: &VersionEntry<'a>, earliest: &[u8]) -> bool {
        version.opener == version.shown
            && version.opener < earliest
            && self.versions.first().is_some_and(|first| first.opener == version.opener)
    }

    /// Whether a version tells the event already, whatever a side file still says.
    fn is_told(&self, entry: &HiddenEntry<'a>, earliest: &[u8]) -> bool {
        if !entry.unset.is_empty() {
            let base = self.versions.first().filter(|version| self.is_base(version, earliest));
            return base.is_some_and(|version| is_twin(entry, version));
        }
        // Versions come in order, and so do the events that they show.
        self.versions.binary_search_by_key(&entry.sequence, |v| v.shown).is_ok_and(|at| {
            let version = &self.versions[at];
            version.opener_op != Op::Delete
                && (version.meta.op == Op::Read) == (entry.meta.op == Op::Read)
                && entry.hashes.is_some_and(|hashes| hashes.full == version.hashes.full)
        })
    }

    /// The closings that may concern the key: those at which something of it may stand.
    fn closings(&self, closings: &Closings, earliest: &[u8]) -> std::ops::Range<usize> {
        let Some(current) = &self.current else { return closings.from(earliest) };
        if !self.windowed {
            // All closings up to there have been applied to the state.
            return closings.after(current.known);
        }
        let first = self.versions.first().map(|version| version.opener);
        let hidden = self.hidden.first().map(|entry| entry.sequence);
        let all = first.into_iter().chain(hidden).chain([earliest]);
        closings.from(all.min().unwrap_or_default())
    }

    fn closing_event<'e>(&self, n: usize, closings: &'e Closings) -> Event<'e, Source> {
        let closing = &closings.all()[n];
        let standing = self.version_opened_at(&closing.sequence).map(|at| &self.versions[at]);
        let standing = standing.filter(|version| {
            version.opener_op == Op::Delete && version.meta.position == closing.position
        });
        closing.event(n as u32, standing.map(|version| version.hashes))
    }
}

fn is_twin(entry: &HiddenEntry<'_>, version: &VersionEntry<'_>) -> bool {
    !entry.unset.is_empty()
        && entry.sequence == version.shown
        && entry.meta.position == version.meta.position
}

fn hidden_event<'e>(n: u32, entry: &HiddenEntry<'e>) -> Event<'e, Source> {
    Event {
        sequence: entry.sequence,
        at: entry.at,
        position: entry.meta.position,
        kind: match entry.hashes {
            Some(row) => Kind::Upsert { row, says: row.full, read: entry.meta.op == Op::Read },
            None => Kind::Delete(None),
        },
        source: Source::Hidden(n),
    }
}
