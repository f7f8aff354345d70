//! What rows of bronze and silver tell of themselves as text: sequences in hexadecimal, positions.
//! The memory is used again for every row.

use std::fmt::Write;

use alluvium_model::{Epoch, Position};

/// Writes texts one after the other.
#[derive(Default)]
pub(crate) struct Texts {
    hex: Vec<u8>,
    position: String,
    /// The message whose place stands in `position`, and how long that is.
    message: Option<(Epoch, u64, usize)>,
}

impl Texts {
    /// `bytes` in lower-case hexadecimal.
    pub(crate) fn hex(&mut self, bytes: &[u8]) -> &str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.hex.clear();
        let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        self.hex.extend(bytes.iter().flat_map(digits));
        std::str::from_utf8(&self.hex).unwrap_or_default()
    }

    /// A position. Those of one message, one after the other, share most of the work.
    pub(crate) fn position(&mut self, position: &Position) -> &str {
        let (epoch, offset) = (position.epoch, position.offset);
        // Writing to a string never fails.
        let written = match self.message.filter(|m| (m.0, m.1) == (epoch, offset)) {
            Some((_, _, length)) => {
                self.position.truncate(length);
                write!(self.position, "{}", position.index)
            }
            None => {
                self.position.clear();
                write!(self.position, "{position}")
            }
        };
        debug_assert!(written.is_ok());
        let length = self.position.rfind('/').map_or(0, |at| at + 1);
        self.message = Some((epoch, offset, length));
        &self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_values_whatever_came_before() {
        let mut texts = Texts::default();
        for (epoch, offset, index) in [(1, 2, 3), (1, 2, 4), (1, 2, 10), (1, 3, 0), (2, 3, 0)] {
            let position = Position { epoch: Epoch(epoch), offset, index };
            assert_eq!(texts.position(&position), position.to_string());
        }
        for bytes in [&b"\x00\xffa"[..], b"", b"\x10"] {
            assert_eq!(texts.hex(bytes), hex::encode(bytes));
        }
    }
}
