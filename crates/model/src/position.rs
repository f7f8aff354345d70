//! Where a record stands on its topic, and the stretches in which progress is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The incarnation of a topic. A recreated topic has a new one, so that its offsets are never
/// mistaken for those of its predecessor. Milliseconds since 1970 at the topic's creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of one record: (epoch, offset of its message, index in the message), totally ordered.
///
/// Offsets begin at 1 and grow from message to message; a bus may have some at which no message
/// stands. Offset 0 stands for "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The topic's incarnation.
    pub epoch: Epoch,
    /// The message's offset, from 1.
    pub offset: u64,
    /// The record's index in its message, from 0.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.epoch, self.offset, self.index)
    }
}

/// Text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position: it is written epoch/offset/index")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let parse = || {
            let mut parts = text.split('/');
            let position = Position {
                epoch: Epoch(parts.next()?.parse().ok()?),
                offset: parts.next()?.parse().ok()?,
                index: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(position)
        };
        parse().ok_or_else(|| PositionError(text.to_owned()))
    }
}

/// The messages with offsets in `(after, to]` of one epoch: the unit of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The topic's incarnation.
    pub epoch: Epoch,
    /// The offset before the first message; 0 at the topic's beginning.
    pub after: u64,
    /// The offset of the last message, or one behind it at which no message stands.
    pub to: u64,
}

impl Span {
    /// How many messages the span holds at most.
    pub fn messages(&self) -> u64 {
        self.to.saturating_sub(self.after)
    }

    /// Whether `next` begins where this one ends.
    pub fn is_followed_by(&self, next: &Span) -> bool {
        self.epoch == next.epoch && self.to == next.after
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}/{}, {}/{}]", self.epoch, self.after, self.epoch, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_epoch_then_offset_then_index() {
        let at = |e, offset, index| Position { epoch: Epoch(e), offset, index };
        assert!(at(1, 9, 9) < at(2, 1, 0));
        assert!(at(1, 1, 9) < at(1, 2, 0));
        assert!(at(1, 1, 0) < at(1, 1, 1));
    }

    #[test]
    fn a_position_reads_what_it_writes() {
        let p = Position { epoch: Epoch(7), offset: 12, index: 3 };
        assert_eq!(p.to_string().parse::<Position>().unwrap(), p);
        assert!("7/12".parse::<Position>().is_err());
        assert!("7/12/3/4".parse::<Position>().is_err());
    }
}
