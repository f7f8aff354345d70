//! From the bytes of a raw object back to messages, every claim checked.

use std::io::{BufRead, BufReader, Read};

use alluvium_model::{Checksum, EncodedMessage, Epoch, Message};
use bytes::Bytes;
use object_store::path::Path;
use zstd::stream::read::Decoder;

use super::header::{self, LONGEST_HEADER, MessageLine};
use super::{RawHeader, RawObject};
use crate::{Lake, LakeError};

/// A message's line is no longer than this.
const LONGEST_LINE: u64 = 1 << 20;
/// No object holds more payload than this; one that says so is damaged.
const LARGEST_OBJECT: u64 = 4 << 30;

/// The messages of an object, byte for byte as they were landed. Count, end and checksum are
/// compared with the header, and the name with both.
pub async fn read(lake: &Lake, object: &RawObject) -> Result<(RawHeader, Vec<Message>), LakeError> {
    let blob = lake.open(&object.path).await?;
    let object = object.clone();
    tokio::task::spawn_blocking(move || decode(&object, blob.into_reader()))
        .await
        .map_err(LakeError::lost)?
}

fn decode(
    object: &RawObject,
    reader: Box<dyn Read + Send>,
) -> Result<(RawHeader, Vec<Message>), LakeError> {
    let mut lines = Lines::new(&object.path, reader)?;
    let header = header::parse(&object.path, &lines.line(LONGEST_HEADER)?)?;
    if (header.epoch, header.after) != (object.epoch, object.after) {
        return Err(lines.damaged("its header is another object's"));
    }
    if header.bytes > LARGEST_OBJECT || header.messages > header.span().messages() {
        return Err(lines.damaged("its header cannot be true"));
    }
    let mut messages = Vec::new();
    let (mut records, mut checksum, mut bytes) = (0, Checksum::default(), 0);
    let mut at = header.after;
    for _ in 0..header.messages {
        let message = lines.message(header.epoch, header.bytes - bytes)?;
        if message.offset <= at || message.offset > header.to {
            let offset = message.offset;
            return Err(lines.damaged(&format!("offset {offset} does not stand in its order")));
        }
        at = message.offset;
        for (index, line) in (0u32..).zip(message.lines()) {
            checksum += Checksum::of(&message.position(index), line);
            records += 1;
        }
        bytes += message.payload.len() as u64;
        messages.push(message);
    }
    if (records, checksum, bytes) != (header.records, header.checksum, header.bytes) {
        return Err(lines.damaged("its records are not those that its header counts"));
    }
    lines.end()?;
    Ok((header, messages))
}

/// The decompressed lines of an object.
struct Lines<'a> {
    path: &'a Path,
    stream: BufReader<Decoder<'static, BufReader<Box<dyn Read + Send>>>>,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, reader: Box<dyn Read + Send>) -> Result<Self, LakeError> {
        let decoder = Decoder::new(reader)
            .map_err(|e| LakeError::Corrupt(format!("{path} cannot be read: {e}")))?;
        Ok(Self { path, stream: BufReader::with_capacity(128 << 10, decoder) })
    }

    fn damaged(&self, what: &str) -> LakeError {
        LakeError::Corrupt(format!("{}: {what}", self.path))
    }

    fn line(&mut self, longest: u64) -> Result<Vec<u8>, LakeError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(longest).read_until(b'\n', &mut line);
        read.map_err(|e| self.damaged(&format!("it cannot be decompressed: {e}")))?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            _ => Err(self.damaged("it ends in the middle of a line, or a line is too long")),
        }
    }

    /// The next message, whose payload holds `most` bytes at most.
    fn message(&mut self, epoch: Epoch, most: u64) -> Result<Message, LakeError> {
        let line = self.line(LONGEST_LINE)?;
        let about: MessageLine = serde_json::from_slice(&line)
            .map_err(|e| self.damaged(&format!("a message's line cannot be read: {e}")))?;
        if about.bytes > most {
            return Err(self.damaged("a message is longer than the whole"));
        }
        let mut payload = Vec::new();
        let read = (&mut self.stream).take(about.bytes).read_to_end(&mut payload);
        read.map_err(|e| self.damaged(&format!("it cannot be decompressed: {e}")))?;
        if payload.len() as u64 != about.bytes {
            return Err(self.damaged("it ends in the middle of a message"));
        }
        if !payload.ends_with(b"\n") && !self.line(1)?.is_empty() {
            return Err(self.damaged("a message does not end where its line says"));
        }
        let encoded = EncodedMessage {
            headers: about.headers,
            payload: Bytes::from(payload),
            records: about.records,
        };
        Ok(Message::new(epoch, about.offset, about.published_at_us, encoded, None))
    }

    fn end(&mut self) -> Result<(), LakeError> {
        match self.stream.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.damaged("something follows the last message")),
            Err(e) => Err(self.damaged(&format!("it cannot be decompressed: {e}"))),
        }
    }
}
