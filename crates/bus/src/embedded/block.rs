//! The block: one message as it stands on disk.
//!
//! Layout of version 1, numbers little-endian: version (1 byte), checksum (8), publish time in
//! microseconds (8), records (4), payload length (4), headers length (4), headers as JSON, payload
//! as one zstd frame. The checksum covers everything after itself and the block's place, so that a
//! block which stands where another belongs is found out.

use std::cell::RefCell;

use alluvium_model::{
    BusError, Checksum, EncodedMessage, EntityId, Epoch, Headers, Message, Position,
};
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

const VERSION: u8 = 1;
const CHECKED: usize = 9;
const FIXED: usize = 29;
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A message compressed and laid out, waiting for its place.
pub(super) struct Prepared {
    message: EncodedMessage,
    block: Vec<u8>,
    frame_at: usize,
}

/// A message in its place, and its block.
pub(super) struct Sealed {
    pub(super) message: Message,
    pub(super) block: Bytes,
}

/// The size that counts against the limit of a message.
pub(super) fn size(message: &EncodedMessage) -> usize {
    let headers: usize = message.headers.0.iter().map(|(k, v)| k.len() + v.len()).sum();
    message.payload.len() + headers
}

/// Lays a message out. Takes processor time: not for an async thread.
pub(super) fn prepare(message: EncodedMessage) -> Result<Prepared, BusError> {
    let failed = |e: &dyn std::fmt::Display| {
        BusError::Unavailable(format!("a message could not be compressed: {e}"))
    };
    let headers = serde_json::to_vec(&message.headers).map_err(|e| failed(&e))?;
    let frame = compress(&message.payload).map_err(|e| failed(&e))?;
    let frame_at = FIXED + headers.len();
    let mut block = Vec::with_capacity(frame_at + frame.len());
    block.push(VERSION);
    block.extend_from_slice(&[0; 16]);
    block.extend_from_slice(&message.records.to_le_bytes());
    for length in [message.payload.len(), headers.len()] {
        block.extend_from_slice(&u32::try_from(length).map_err(|e| failed(&e))?.to_le_bytes());
    }
    block.extend_from_slice(&headers);
    block.extend_from_slice(&frame);
    Ok(Prepared { message, block, frame_at })
}

impl Prepared {
    /// How many bytes of payload the message holds.
    pub(super) fn payload_bytes(&self) -> usize {
        self.message.payload.len()
    }

    /// Gives the message its place.
    pub(super) fn seal(mut self, epoch: Epoch, offset: u64, published_at_us: i64) -> Sealed {
        self.block[CHECKED..CHECKED + 8].copy_from_slice(&published_at_us.to_le_bytes());
        let checksum = checksum(epoch, offset, &self.block);
        self.block[1..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        let block = Bytes::from(self.block);
        let frame = block.slice(self.frame_at..);
        let message = Message::new(epoch, offset, published_at_us, self.message, Some(frame));
        Sealed { message, block }
    }
}

/// Reads the block that stands at `offset` of `topic`.
pub(super) fn read(
    topic: &EntityId,
    epoch: Epoch,
    offset: u64,
    block: Bytes,
) -> Result<Message, BusError> {
    let damaged = |what: &str| BusError::Corrupt(format!("topic {topic}, offset {offset}: {what}"));
    match block.first() {
        Some(&VERSION) if block.len() >= FIXED => {}
        Some(&VERSION) | None => return Err(damaged("the block is cut short")),
        Some(other) => return Err(damaged(&format!("the block has the unknown version {other}"))),
    }
    if number::<8>(&block, 1).map(u64::from_le_bytes) != Some(checksum(epoch, offset, &block)) {
        return Err(damaged("the checksum does not fit"));
    }
    let cut_short = || damaged("the block is cut short");
    let published_at_us = number(&block, CHECKED).map(i64::from_le_bytes).ok_or_else(cut_short)?;
    let records = number(&block, 17).map(u32::from_le_bytes).ok_or_else(cut_short)?;
    let payload_len = number(&block, 21).map(u32::from_le_bytes).ok_or_else(cut_short)? as usize;
    let headers_len = number(&block, 25).map(u32::from_le_bytes).ok_or_else(cut_short)? as usize;
    let headers = block.get(FIXED..FIXED + headers_len).ok_or_else(cut_short)?;
    let headers: Headers =
        serde_json::from_slice(headers).map_err(|_| damaged("the headers cannot be read"))?;
    let frame = block.slice(FIXED + headers_len..);
    let payload = Decompressor::new()
        .and_then(|mut zstd| zstd.decompress(&frame, payload_len))
        .map_err(|e| damaged(&format!("the payload cannot be read: {e}")))?;
    if payload.len() != payload_len {
        return Err(damaged("the payload is cut short"));
    }
    let encoded = EncodedMessage { headers, payload: Bytes::from(payload), records };
    Ok(Message::new(epoch, offset, published_at_us, encoded, Some(frame)))
}

fn compress(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            let mut fresh = Compressor::new(LEVEL)?;
            fresh.set_parameter(CParameter::ChecksumFlag(true))?;
            *slot = Some(fresh);
        }
        match slot {
            Some(compressor) => compressor.compress(payload),
            None => Err(std::io::Error::other("no compressor")),
        }
    })
}

fn checksum(epoch: Epoch, offset: u64, block: &[u8]) -> u64 {
    Checksum::of(&Position { epoch, offset, index: 0 }, &block[CHECKED..]).0
}

fn number<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(payload: &'static [u8]) -> Sealed {
        let headers = Headers::default().with("ce-id", "grün");
        let message = EncodedMessage { headers, payload: Bytes::from_static(payload), records: 3 };
        prepare(message).unwrap().seal(Epoch(5), 7, 99)
    }

    fn topic() -> EntityId {
        "shop.orders".parse().unwrap()
    }

    #[test]
    fn a_block_reads_what_it_writes() {
        let Sealed { message, block } = sealed(b"\xff\x00{}\n");
        let read = read(&topic(), Epoch(5), 7, block).unwrap();
        assert_eq!((&read.headers, &read.payload), (&message.headers, &message.payload));
        assert_eq!((read.published_at_us, read.records), (99, 3));
        assert_eq!(read.frame, message.frame);
        let frame = read.frame.unwrap();
        assert_eq!(zstd::bulk::decompress(&frame, 100).unwrap(), b"\xff\x00{}\n");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_out() {
        let Sealed { block, .. } = sealed(b"{\"id\":1}");
        for at in 0..block.len() {
            let mut bytes = block.to_vec();
            bytes[at] ^= 1;
            let found = read(&topic(), Epoch(5), 7, Bytes::from(bytes));
            assert!(matches!(found, Err(BusError::Corrupt(_))), "byte {at}");
        }
    }

    #[test]
    fn a_block_in_the_place_of_another_or_cut_short_is_found_out() {
        let Sealed { block, .. } = sealed(b"{}");
        let text = read(&topic(), Epoch(5), 8, block.clone()).unwrap_err().to_string();
        assert!(text.contains("shop.orders") && text.contains("offset 8"), "{text}");
        assert!(read(&topic(), Epoch(6), 7, block.clone()).is_err());
        for end in 0..block.len() {
            assert!(read(&topic(), Epoch(5), 7, block.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
