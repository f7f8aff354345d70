//! What the index keeps of a key: its current state, its closed versions, and hidden events.
//!
//! Entries borrow from the bytes they are read from: a batch looks up many and keeps none.

use alluvium_model::{Op, Position, SequencePart};

use super::bytes::{Put, Take};

/// Where a value comes from: what a silver row tells of the event whose values it shows. Run and
/// batch are numbers in the index's own dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventMeta {
    /// What the event did.
    pub op: Op,
    /// Where it stands on the topic.
    pub position: Position,
    /// When the row was changed in the source, in microseconds since 1970.
    pub changed_at: Option<i64>,
    /// When the bus took it, in microseconds since 1970.
    pub ingested_at: i64,
    /// The run that brought it.
    pub run: u32,
    /// The batch that applied it.
    pub batch: u32,
}

/// Hashes of a row: what tells rows apart without their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hashes {
    /// Of the tracked columns.
    pub tracked: u128,
    /// Of all stored columns.
    pub full: u128,
    /// Of the columns that limit what a snapshot closes; 0 where there are none.
    pub scope: u64,
}

/// A version that stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionEntry<'a> {
    /// The file, by its number in the index.
    pub file: u32,
    /// The row in the file.
    pub row: u32,
    /// The sequence of the event that opened it.
    pub opener: &'a [u8],
    /// Its first part.
    pub opener_at: SequencePart,
    /// What the opening event did.
    pub opener_op: Op,
    /// The sequence of the event whose values it shows.
    pub shown: &'a [u8],
    /// The first part of that.
    pub shown_at: SequencePart,
    /// The hashes of the values.
    pub hashes: Hashes,
    /// Where it ends; `None` while it is open.
    pub closed_at: Option<SequencePart>,
    /// Where the shown values come from.
    pub meta: EventMeta,
    /// The stored values; empty for closed versions, whose values stand in the table only.
    pub values: &'a [u8],
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentEntry<'a> {
    /// The highest sequence known of the key.
    pub known: &'a [u8],
    /// Whether a row of a snapshot is known at that sequence.
    pub read: bool,
    /// Whether the row that the open version shows was completed: its event came without some
    /// columns, and is remembered with what it said.
    pub completed: bool,
    /// The open version, if there is one.
    pub open: Option<VersionEntry<'a>>,
}

/// An event that the table does not tell of, or not all: one that no version shows, or one that came
/// with columns not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenEntry<'a> {
    /// The event's sequence.
    pub sequence: &'a [u8],
    /// Its first part.
    pub at: SequencePart,
    /// The hashes of what it says; `None` for a delete.
    pub hashes: Option<Hashes>,
    /// The columns that were not sent, as tags of eight bytes each.
    pub unset: &'a [u8],
    /// Where it comes from.
    pub meta: EventMeta,
    /// Its stored values, where no version shows equal ones.
    pub values: Option<&'a [u8]>,
}

fn put_op(out: &mut Vec<u8>, op: Op) {
    out.push(op.as_str().as_bytes()[0]);
}

fn take_op(take: &mut Take<'_>) -> Option<Op> {
    let letter = [take.byte()?];
    Op::parse(std::str::from_utf8(&letter).ok()?)
}

impl EventMeta {
    fn put(&self, out: &mut Vec<u8>) {
        put_op(out, self.op);
        out.put_position(&self.position);
        out.push(u8::from(self.changed_at.is_some()));
        if let Some(at) = self.changed_at {
            out.put_signed(at);
        }
        out.put_signed(self.ingested_at);
        out.put_varint(u64::from(self.run));
        out.put_varint(u64::from(self.batch));
    }

    fn take(take: &mut Take<'_>) -> Option<Self> {
        Some(Self {
            op: take_op(take)?,
            position: take.position()?,
            changed_at: if take.byte()? == 1 { Some(take.signed()?) } else { None },
            ingested_at: take.signed()?,
            run: u32::try_from(take.varint()?).ok()?,
            batch: u32::try_from(take.varint()?).ok()?,
        })
    }
}

impl<'a> VersionEntry<'a> {
    /// Appends the entry to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.file));
        out.put_varint(u64::from(self.row));
        out.put_slice(self.opener);
        out.put_at(self.opener_at);
        put_op(out, self.opener_op);
        let same = self.opener == self.shown;
        let (scoped, all) = (self.hashes.scope != 0, self.hashes.tracked == self.hashes.full);
        out.push(u8::from(same) | u8::from(all) << 1 | u8::from(scoped) << 2);
        if !same {
            out.put_slice(self.shown);
            out.put_at(self.shown_at);
        }
        out.extend_from_slice(&self.hashes.tracked.to_le_bytes());
        if !all {
            out.extend_from_slice(&self.hashes.full.to_le_bytes());
        }
        if scoped {
            out.extend_from_slice(&self.hashes.scope.to_le_bytes());
        }
        out.push(u8::from(self.closed_at.is_some()));
        if let Some(at) = self.closed_at {
            out.put_at(at);
        }
        self.meta.put(out);
        out.put_slice(self.values);
    }

    /// Reads what `put` wrote.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::take(&mut Take(bytes))
    }

    fn take(take: &mut Take<'a>) -> Option<Self> {
        let (file, row) =
            (u32::try_from(take.varint()?).ok()?, u32::try_from(take.varint()?).ok()?);
        let (opener, opener_at, opener_op) = (take.slice()?, take.at()?, take_op(take)?);
        let flags = take.byte()?;
        let (shown, shown_at) =
            if flags & 1 == 1 { (opener, opener_at) } else { (take.slice()?, take.at()?) };
        let tracked = take.u128()?;
        let full = if flags & 2 == 2 { tracked } else { take.u128()? };
        let scope = if flags & 4 == 4 { take.u64()? } else { 0 };
        let closed_at = if take.byte()? == 1 { Some(take.at()?) } else { None };
        let meta = EventMeta::take(take)?;
        let values = take.slice()?;
        Some(Self {
            file,
            row,
            opener,
            opener_at,
            opener_op,
            shown,
            shown_at,
            hashes: Hashes { tracked, full, scope },
            closed_at,
            meta,
            values,
        })
    }
}

impl<'a> CurrentEntry<'a> {
    /// Appends the entry to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        let flags = [self.open.is_some(), self.read, self.completed];
        out.push(flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag)));
        out.put_slice(self.known);
        if let Some(open) = &self.open {
            open.put(out);
        }
    }

    /// Reads what `put` wrote.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let flags = take.byte()?;
        let known = take.slice()?;
        let open = if flags & 1 == 1 { Some(VersionEntry::take(&mut take)?) } else { None };
        Some(Self { known, read: flags & 2 == 2, completed: flags & 4 == 4, open })
    }
}

impl<'a> HiddenEntry<'a> {
    /// The entry's place after its key: by sequence, then by what it says.
    pub fn place(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.sequence);
        match self.hashes {
            None => out.push(0),
            Some(hashes) => {
                out.push(if self.meta.op == Op::Read { 2 } else { 1 });
                out.extend_from_slice(&hashes.tracked.to_be_bytes());
                out.extend_from_slice(&hashes.full.to_be_bytes());
            }
        }
    }

    /// Appends the entry to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(self.sequence);
        out.put_at(self.at);
        let partial = !self.unset.is_empty();
        let flags = u8::from(self.hashes.is_some()) | u8::from(self.values.is_some()) << 1;
        out.push(flags | u8::from(partial) << 2);
        if let Some(hashes) = self.hashes {
            out.extend_from_slice(&hashes.tracked.to_le_bytes());
            out.extend_from_slice(&hashes.full.to_le_bytes());
            out.extend_from_slice(&hashes.scope.to_le_bytes());
        }
        if partial {
            out.put_slice(self.unset);
        }
        self.meta.put(out);
        if let Some(values) = self.values {
            out.put_slice(values);
        }
    }

    /// Reads what `put` wrote.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let (sequence, at) = (take.slice()?, take.at()?);
        let flags = take.byte()?;
        let hashes = match flags & 1 {
            1 => Some(Hashes { tracked: take.u128()?, full: take.u128()?, scope: take.u64()? }),
            _ => None,
        };
        let unset = if flags & 4 == 4 { take.slice()? } else { &[] };
        let meta = EventMeta::take(&mut take)?;
        let values = if flags & 2 == 2 { Some(take.slice()?) } else { None };
        Some(Self { sequence, at, hashes, unset, meta, values })
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::Epoch;

    use super::*;

    fn meta() -> EventMeta {
        EventMeta {
            op: Op::Update,
            position: Position { epoch: Epoch(1_763_000_000_000), offset: 9, index: 4 },
            changed_at: Some(-5),
            ingested_at: 1_763_000_000_000_000,
            run: 3,
            batch: 900,
        }
    }

    #[test]
    fn entries_read_what_they_write() {
        let mut version = VersionEntry {
            file: 7,
            row: 99_999,
            opener: b"abc",
            opener_at: SequencePart::Long(-1),
            opener_op: Op::Create,
            shown: b"abd",
            shown_at: SequencePart::Timestamp(12),
            hashes: Hashes { tracked: 1, full: 2, scope: 3 },
            closed_at: Some(SequencePart::Decimal(-7)),
            meta: meta(),
            values: b"values",
        };
        for same in [false, true] {
            if same {
                (version.shown, version.shown_at) = (version.opener, version.opener_at);
                version.hashes = Hashes { tracked: 1, full: 1, scope: 0 };
                version.closed_at = None;
            }
            let current =
                CurrentEntry { known: b"zz", read: same, completed: !same, open: Some(version) };
            let mut out = Vec::new();
            current.put(&mut out);
            assert_eq!(CurrentEntry::parse(&out), Some(current));
            for cut in 0..out.len() {
                assert_eq!(CurrentEntry::parse(&out[..cut]), None, "cut at {cut}");
            }
        }
        let hidden = HiddenEntry {
            sequence: b"s",
            at: SequencePart::Long(1),
            hashes: Some(Hashes { tracked: 1, full: 2, scope: 3 }),
            unset: b"12345678",
            meta: meta(),
            values: Some(b"v"),
        };
        let mut out = Vec::new();
        hidden.put(&mut out);
        assert_eq!(HiddenEntry::parse(&out), Some(hidden));
    }
}
