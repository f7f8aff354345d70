//! The checksum by which layers are compared: a wrapping sum over (position, bytes) of records.
//!
//! A sum does not depend on the order in which it was taken nor on how a stretch was cut into
//! batches, so that the totals of two layers can be compared at any position both have reached.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Position;

/// A wrapping sum of record digests. Zero for no record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub u64);

impl Checksum {
    /// The digest of one record: its bytes as received, without the line feed, at its position.
    pub fn of(position: &Position, bytes: &[u8]) -> Self {
        // Not by a seed: for longer input that derives a secret anew for every record.
        let mut placed = [0u8; 28];
        placed[..8].copy_from_slice(&position.epoch.0.to_le_bytes());
        placed[8..16].copy_from_slice(&position.offset.to_le_bytes());
        placed[16..20].copy_from_slice(&position.index.to_le_bytes());
        placed[20..].copy_from_slice(&xxh3_64(bytes).to_le_bytes());
        Self(xxh3_64(&placed))
    }
}

impl AddAssign for Checksum {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl std::iter::Sum for Checksum {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |mut sum, item| {
            sum += item;
            sum
        })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl TryFrom<String> for Checksum {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(sum: Checksum) -> String {
        sum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    #[test]
    fn the_digest_of_a_record_never_changes_between_releases() {
        let at = Position { epoch: Epoch(1), offset: 2, index: 3 };
        assert_eq!(Checksum::of(&at, b"{\"id\":1}").to_string(), "d89a2f88021f86a7");
    }

    #[test]
    fn the_sum_depends_on_the_place_and_not_on_the_order() {
        let at = |index| Position { epoch: Epoch(1), offset: 1, index };
        let (a, b) = (Checksum::of(&at(0), b"x"), Checksum::of(&at(1), b"x"));
        assert_ne!(a, b);
        assert_eq!([a, b].into_iter().sum::<Checksum>(), [b, a].into_iter().sum());
    }
}
