//! Keys and values of the database, in bytes.
//!
//! Numbers in keys are big-endian, so that they sort; numbers in values are little-endian. What is
//! small and seldom is JSON.

use alluvium_model::{BusError, EntityId, Epoch};
use serde::{Deserialize, Serialize};

use super::topic::{Tip, Weight};

/// A topic's own record.
#[derive(Serialize, Deserialize)]
pub(super) struct TopicRecord {
    pub(super) topic: EntityId,
    pub(super) epoch: Epoch,
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, BusError> {
    serde_json::to_vec(value)
        .map_err(|e| BusError::Unavailable(format!("a record cannot be written: {e}")))
}

pub(super) fn message_key(topic: u32, offset: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn meta_key(kind: u8, topic: u32) -> [u8; 5] {
    let [a, b, c, d] = topic.to_be_bytes();
    [kind, a, b, c, d]
}

/// The kind of what says where a topic ends: each group of pages has it anew.
pub(super) const END: u8 = b'e';

/// Whether a key is that of where a topic ends.
pub(super) fn is_end(key: &[u8]) -> bool {
    key.len() == meta_key(END, 0).len() && key.first() == Some(&END)
}

pub(super) fn write_end(tip: &Tip) -> Vec<u8> {
    [tip.end.to_le_bytes(), tip.published_at_us.to_le_bytes()].concat()
}

pub(super) fn read_end(bytes: &[u8]) -> Option<(u64, i64)> {
    let (end, published) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*end), i64::from_le_bytes(published.try_into().ok()?)))
}

pub(super) fn write_weight(w: Weight) -> Vec<u8> {
    let numbers = [w.payload, w.stored, w.records].map(u32::to_le_bytes).concat();
    [numbers.as_slice(), &w.published_at_us.to_le_bytes()].concat()
}

pub(super) fn read_weight(bytes: &[u8]) -> Option<Weight> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let published_at_us = i64::from_le_bytes(bytes.get(12..20)?.try_into().ok()?);
    Some(Weight { payload: number(0)?, stored: number(4)?, records: number(8)?, published_at_us })
}
