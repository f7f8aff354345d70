//! The little writing and reading that index entries are made of.

use alluvium_model::{Epoch, Position, SequencePart};

/// Appends values to a buffer.
pub(super) trait Put {
    fn put_varint(&mut self, value: u64);
    fn put_slice(&mut self, value: &[u8]);
    fn put_signed(&mut self, value: i64);
    fn put_at(&mut self, value: SequencePart);
    fn put_position(&mut self, value: &Position);
}

impl Put for Vec<u8> {
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_slice(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_at(&mut self, value: SequencePart) {
        match value {
            SequencePart::Long(value) => {
                self.push(1);
                self.put_signed(value);
            }
            SequencePart::Timestamp(value) => {
                self.push(2);
                self.put_signed(value);
            }
            SequencePart::Decimal(value) => {
                self.push(3);
                self.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    fn put_position(&mut self, value: &Position) {
        self.put_varint(value.epoch.0);
        self.put_varint(value.offset);
        self.put_varint(u64::from(value.index));
    }
}

/// Reads values off the front of a slice; `None` once something does not fit.
#[derive(Clone, Copy)]
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn slice(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.varint()?).ok()?;
        self.bytes(n)
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn at(&mut self) -> Option<SequencePart> {
        Some(match self.byte()? {
            1 => SequencePart::Long(self.signed()?),
            2 => SequencePart::Timestamp(self.signed()?),
            3 => SequencePart::Decimal(self.array().map(i128::from_le_bytes)?),
            _ => return None,
        })
    }

    pub(super) fn position(&mut self) -> Option<Position> {
        Some(Position {
            epoch: Epoch(self.varint()?),
            offset: self.varint()?,
            index: u32::try_from(self.varint()?).ok()?,
        })
    }
}
