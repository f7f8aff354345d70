//! The first line of a raw object.

use std::io::{BufRead, BufReader, Read};

use alluvium_model::{Checksum, EntityId, Epoch, Headers, Span};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::LakeError;

/// So many bytes of an object hold its header in any case.
pub(super) const HEAD_BYTES: u64 = 4096;
/// No header is longer than this once decompressed.
pub(super) const LONGEST_HEADER: u64 = 16 * 1024;

/// What a raw object says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawHeader {
    #[serde(rename = "alluvium")]
    format: Format,
    /// The topic that the messages stood on.
    pub topic: EntityId,
    /// The topic's epoch.
    pub epoch: Epoch,
    /// The offset before the first message.
    pub after: u64,
    /// The offset up to which the object goes: that of its last message, or one behind it at which
    /// no message stands.
    pub to: u64,
    /// How many messages the object holds.
    pub messages: u64,
    /// How many records they hold.
    pub records: u64,
    /// How many bytes of payload they hold.
    pub bytes: u64,
    /// The sum over their records.
    pub checksum: Checksum,
    /// The sums from the epoch's beginning to this object's end.
    pub totals: RawTotals,
}

/// Records and checksum from an epoch's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawTotals {
    /// How many records.
    pub records: u64,
    /// The sum over them.
    pub checksum: Checksum,
}

/// What a message's own line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageLine {
    pub(super) offset: u64,
    pub(super) published_at_us: i64,
    pub(super) headers: Headers,
    pub(super) records: u32,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "raw/1")]
    V1,
}

impl RawHeader {
    /// The header of an object that holds `own` over `span`, after `before`.
    pub(super) fn new(
        topic: EntityId,
        span: Span,
        messages: u64,
        bytes: u64,
        own: RawTotals,
        before: RawTotals,
    ) -> Self {
        Self {
            format: Format::V1,
            topic,
            epoch: span.epoch,
            after: span.after,
            to: span.to,
            messages,
            records: own.records,
            bytes,
            checksum: own.checksum,
            totals: before.plus(own),
        }
    }

    /// The stretch that the object fills.
    pub fn span(&self) -> Span {
        Span { epoch: self.epoch, after: self.after, to: self.to }
    }

    /// Whether this object goes on exactly where `previous` ends: `None` for an epoch's first.
    /// [`LakeError::Corrupt`] says what is missing or does not add up.
    pub fn check_follows(&self, previous: Option<&RawHeader>) -> Result<(), LakeError> {
        let previous = previous.filter(|p| p.epoch == self.epoch);
        let (end, before) = previous.map_or((0, RawTotals::default()), |p| (p.to, p.totals));
        if self.after != end {
            return Err(LakeError::Corrupt(format!(
                "raw of {} has a hole: offsets ({end}, {}] of epoch {} are not there",
                self.topic, self.after, self.epoch
            )));
        }
        let own = RawTotals { records: self.records, checksum: self.checksum };
        if self.totals != before.plus(own) {
            return Err(LakeError::Corrupt(format!(
                "raw of {}: the totals of {} do not follow from those before it",
                self.topic,
                self.span()
            )));
        }
        Ok(())
    }
}

impl RawTotals {
    /// The sums with `other` added.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.records += other.records;
        self.checksum += other.checksum;
        self
    }
}

/// Reads the header from the first bytes of an object.
pub(super) fn parse_frame(path: &Path, head: &[u8]) -> Result<RawHeader, LakeError> {
    let damaged = |what: &dyn std::fmt::Display| {
        LakeError::Corrupt(format!("{path} does not begin with a raw header: {what}"))
    };
    let frame = zstd::stream::read::Decoder::with_buffer(head).map_err(|e| damaged(&e))?;
    let mut line = Vec::new();
    BufReader::new(frame.single_frame().take(LONGEST_HEADER))
        .read_until(b'\n', &mut line)
        .map_err(|e| damaged(&e))?;
    parse(path, &line)
}

/// Reads the header from its line.
pub(super) fn parse(path: &Path, line: &[u8]) -> Result<RawHeader, LakeError> {
    serde_json::from_slice(line).map_err(|e| {
        LakeError::Corrupt(format!("{path} does not begin with a raw header we know: {e}"))
    })
}
