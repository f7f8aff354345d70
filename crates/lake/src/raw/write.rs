//! From messages to the bytes of a raw object.

use std::sync::Arc;

use alluvium_model::{Checksum, EntityId, Message, Span};
use bytes::Bytes;
use object_store::PutPayload;
use serde::Serialize;
use zstd::bulk::Compressor;

use super::header::{MessageLine, RawHeader, RawTotals};
use crate::LakeError;

/// Fast, and most of the gain: raw is written once and seldom read.
const LEVEL: i32 = 1;

/// The object that holds `messages`, and its header.
pub(super) fn encode(
    topic: EntityId,
    span: Span,
    messages: &[Arc<Message>],
    before: RawTotals,
) -> Result<(RawHeader, PutPayload), LakeError> {
    check_chain(&topic, span, messages)?;
    let mut frames = Frames::new()?;
    let mut own = RawTotals::default();
    let mut bytes = 0;
    for message in messages {
        own = own.plus(totals_of(&topic, message)?);
        bytes += message.payload.len() as u64;
        frames.push_line(&MessageLine {
            offset: message.offset,
            published_at_us: message.published_at_us,
            headers: message.headers.clone(),
            records: message.records,
            bytes: message.payload.len() as u64,
        })?;
        match &message.frame {
            Some(frame) => frames.done.push(frame.clone()),
            None => frames.push(&message.payload)?,
        }
        if !message.payload.ends_with(b"\n") {
            frames.push(b"\n")?;
        }
    }
    let header = RawHeader::new(topic, span, bytes, own, before);
    let mut first = Frames::new()?;
    first.push_line(&header)?;
    Ok((header, first.done.into_iter().chain(frames.done).collect()))
}

/// That the messages fill the span, in order and without holes.
fn check_chain(topic: &EntityId, span: Span, messages: &[Arc<Message>]) -> Result<(), LakeError> {
    let offsets = messages.iter().map(|m| (m.epoch, m.offset));
    let expected = (span.after + 1..=span.to).map(|offset| (span.epoch, offset));
    if messages.is_empty() || !offsets.eq(expected) {
        return Err(LakeError::Bug(format!("{topic}: the messages do not fill the span {span}")));
    }
    Ok(())
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
