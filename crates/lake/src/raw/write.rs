//! From messages to the bytes of a raw object.

use alluvium_model::{Checksum, EntityId, Epoch, Message, Span};
use bytes::Bytes;
use object_store::PutPayload;
use object_store::path::Path;
use serde::Serialize;
use zstd::bulk::Compressor;

use super::header::{MessageLine, RawHeader, RawTotals};
use crate::{LakeError, path};

/// Fast, and most of the gain: raw is written once and seldom read.
const LEVEL: i32 = 1;

/// A raw object in the making: messages are packed as they come, so that what waits to be landed
/// takes little memory.
pub struct RawDraft {
    topic: EntityId,
    span: Span,
    messages: u64,
    own: RawTotals,
    bytes: u64,
    frames: Frames,
}

impl RawDraft {
    /// An object that follows `after`.
    pub fn new(topic: EntityId, epoch: Epoch, after: u64) -> Result<Self, LakeError> {
        let span = Span { epoch, after, to: after };
        let frames = Frames::new()?;
        Ok(Self { topic, span, messages: 0, own: RawTotals::default(), bytes: 0, frames })
    }

    /// The stretch that it fills so far.
    pub fn span(&self) -> Span {
        self.span
    }

    /// How many bytes of payload it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next message. There may be offsets before it at which no message stands. Takes
    /// processor time: not for an async thread. After an error the draft is not to be used any more.
    ///
    /// # Errors
    /// [`LakeError::Bug`] if the message does not follow, or is not what it says of itself.
    pub fn push(&mut self, message: &Message) -> Result<(), LakeError> {
        let (topic, span) = (&self.topic, self.span);
        if message.epoch != span.epoch || message.offset <= span.to {
            let (epoch, offset) = (message.epoch, message.offset);
            return Err(LakeError::Bug(format!(
                "{topic}: message {epoch}/{offset} does not follow the span {span}"
            )));
        }
        self.own = self.own.plus(totals_of(topic, message)?);
        self.frames.push_line(&MessageLine {
            offset: message.offset,
            published_at_us: message.published_at_us,
            headers: message.headers.clone(),
            records: message.records,
            bytes: message.payload.len() as u64,
        })?;
        match &message.frame {
            Some(frame) => self.frames.done.push(frame.clone()),
            None => self.frames.push(&message.payload)?,
        }
        if !message.payload.ends_with(b"\n") {
            self.frames.push(b"\n")?;
        }
        self.bytes += message.payload.len() as u64;
        self.messages += 1;
        self.span.to = message.offset;
        Ok(())
    }

    /// Takes along the offsets up to `to`, at which no message stands.
    pub fn reach(&mut self, to: u64) {
        self.span.to = self.span.to.max(to);
    }

    /// Where the object will stand.
    pub(super) fn path(&self) -> Path {
        path::raw_object(&self.topic, self.span.epoch, self.span.after)
    }

    /// The object, and its header.
    pub(super) fn finish(self, before: RawTotals) -> Result<(RawHeader, PutPayload), LakeError> {
        let Self { topic, span, messages, own, bytes, frames } = self;
        if messages == 0 {
            return Err(LakeError::Bug(format!("{topic}: there is nothing to land at {span}")));
        }
        let header = RawHeader::new(topic, span, messages, bytes, own, before);
        let mut first = Frames::new()?;
        first.push_line(&header)?;
        Ok((header, first.done.into_iter().chain(frames.done).collect()))
    }
}

/// Counts and sums the lines themselves, not what the message says about them.
fn totals_of(topic: &EntityId, message: &Message) -> Result<RawTotals, LakeError> {
    let mut totals = RawTotals::default();
    for (index, line) in (0u32..).zip(message.lines()) {
        totals.records += 1;
        totals.checksum += Checksum::of(&message.position(index), line);
    }
    if totals.records != u64::from(message.records) {
        return Err(LakeError::Bug(format!(
            "{topic}: message {} was said to hold {} records and holds {}",
            message.offset, message.records, totals.records
        )));
    }
    Ok(totals)
}

/// zstd frames, each with its own checksum.
struct Frames {
    compressor: Compressor<'static>,
    done: Vec<Bytes>,
}

impl Frames {
    fn new() -> Result<Self, LakeError> {
        let mut compressor = Compressor::new(LEVEL).map_err(compressing)?;
        compressor.include_checksum(true).map_err(compressing)?;
        Ok(Self { compressor, done: Vec::new() })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), LakeError> {
        self.done.push(self.compressor.compress(bytes).map_err(compressing)?.into());
        Ok(())
    }

    fn push_line(&mut self, line: &impl Serialize) -> Result<(), LakeError> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|e| LakeError::Bug(format!("a line of raw cannot be written: {e}")))?;
        bytes.push(b'\n');
        self.push(&bytes)
    }
}

fn compressing(error: std::io::Error) -> LakeError {
    LakeError::Bug(format!("zstd refused to compress: {error}"))
}
