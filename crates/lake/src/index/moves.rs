//! Files whose rows have moved: entries still name the old place, and are led to the new one.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::error::IndexError;
use super::store::KeyIndex;
use super::update::IndexUpdate;

/// Where the rows of a file have gone. They keep their order, so that a row's new place follows
/// from how many before it stayed behind.
#[derive(Debug, Clone, PartialEq)]
pub struct FileMove {
    /// The file where they are now, by its number.
    pub to: u32,
    /// Where the first row that moved stands there; the others follow it.
    pub base: u32,
    /// How many moved.
    pub rows: u32,
    /// Rows that did not move, for they were deleted before.
    pub left: RoaringBitmap,
    /// The sweep before which the rows moved: once that one has passed, no entry names the old
    /// place.
    pub pass: u32,
}

impl FileMove {
    /// Where a row is now; `None` if it did not move.
    pub fn place(&self, row: u32) -> Option<u32> {
        if self.left.contains(row) {
            return None;
        }
        let before = u32::try_from(self.left.rank(row)).ok()?;
        self.base.checked_add(row.checked_sub(before)?)
    }

    /// Both moves as one, where `next` moved the rows of the file that this one led to. No entry
    /// has named the first file since the first move, so that it counts for the sweep.
    pub fn then(&self, next: &Self) -> Self {
        let first = next.left.range(..self.base).count();
        let in_between = next.left.range(self.base..self.base.saturating_add(self.rows));
        let lost: Vec<u32> = in_between.map(|row| row - self.base).collect();
        let mut left = self.left.clone();
        let mut stayed = self.left.iter().zip(0u32..).peekable();
        let mut before = 0;
        for place in &lost {
            // The rows that stayed behind and stood before the one that is at `place` now.
            while stayed.next_if(|(row, rank)| row - rank <= *place).is_some() {
                before += 1;
            }
            left.insert(place + before);
        }
        Self {
            to: next.to,
            base: next.base + self.base - first as u32,
            rows: self.rows - lost.len() as u32,
            left,
            pass: self.pass,
        }
    }

    fn put(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.left.serialized_size());
        for number in [self.to, self.base, self.rows, self.pass] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // Writing to memory does not fail.
        self.left.serialize_into(&mut out).ok();
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (numbers, left) = bytes.split_at_checked(16)?;
        let number = |at: usize| {
            let bytes: [u8; 4] = numbers.get(at * 4..at * 4 + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        Some(Self {
            to: number(0)?,
            base: number(1)?,
            rows: number(2)?,
            pass: number(3)?,
            left: RoaringBitmap::deserialize_from(left).ok()?,
        })
    }
}

impl KeyIndex {
    /// All moves, by the number of the file that the rows were in.
    pub fn moves(&self) -> Result<HashMap<u32, FileMove>, IndexError> {
        self.moves
            .iter()
            .map(|entry| {
                let (file, bytes) = entry.into_inner()?;
                let file: [u8; 4] = file.as_ref().try_into().map_err(|_| IndexError::Damaged)?;
                let moved = FileMove::parse(&bytes).ok_or(IndexError::Damaged)?;
                Ok((u32::from_be_bytes(file), moved))
            })
            .collect()
    }
}

impl IndexUpdate {
    /// Leads entries that name a file to where its rows are now.
    pub fn moved(&mut self, file: u32, to: &FileMove) {
        self.batch.insert(&self.index.moves, file.to_be_bytes(), to.put());
    }

    /// Forgets a move that no entry needs.
    pub fn forget_move(&mut self, file: u32) {
        self.batch.remove(&self.index.moves, file.to_be_bytes());
    }

    /// Forgets a name that no entry needs.
    pub fn forget_name(&mut self, id: u32) {
        self.batch.remove(&self.index.names, id.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_one_after_the_other_lead_where_one_leads() {
        let mut dice = 88_172_645_463_325_252u64;
        let mut below = |bound: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % bound
        };
        for _ in 0..300 {
            let rows = 1 + below(40) as u32;
            let share = 1 + below(5);
            let left: RoaringBitmap = (0..rows).filter(|_| below(5) < share).collect();
            let base = below(20) as u32;
            let first = FileMove { to: 1, base, rows: rows - left.len() as u32, left, pass: 0 };
            let left: RoaringBitmap = (0..80).filter(|_| below(5) < share).collect();
            let next = FileMove {
                to: 2,
                base: below(9) as u32,
                rows: 80 - left.len() as u32,
                left,
                pass: 3,
            };
            let both = first.then(&next);
            for row in 0..rows {
                let step_by_step = first.place(row).and_then(|row| next.place(row));
                assert_eq!(both.place(row), step_by_step, "row {row} of {first:?}, {next:?}");
            }
            let moved = (0..rows).filter(|row| both.place(*row).is_some()).count();
            assert_eq!((both.to, both.pass, both.rows as usize), (2, 0, moved));
            assert_eq!(FileMove::parse(&both.put()), Some(both));
        }
    }
}
