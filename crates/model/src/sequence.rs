//! A change's place in its source's own order, encoded so that bytes compare as the values do.
//!
//! The encoding of each part is self-delimiting, so that tuples are plain concatenations. It stands
//! in every silver row as `_seq` (lower-case hex) and never changes between releases.

mod instant;

use std::fmt;

use jiff::tz::TimeZone;
use num_bigint::{BigInt, Sign};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metadata::TimeUnit;
use instant::value_micros;
pub use instant::{Instant, parse_instant, parse_timestamp};

/// What a part of a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SequenceType {
    /// A 64-bit integer.
    Long,
    /// A decimal of any length, compared by value.
    Decimal,
    /// An instant, compared at full precision. Without a zone, the system's zone is meant.
    Timestamp,
    /// A PostgreSQL log sequence number, `16/B374D848`.
    Lsn,
    /// A MySQL binlog coordinate, `mysql-bin.000003:154`.
    Binlog,
}

/// The first part of a sequence in its own type: what `_valid_from` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SequencePart {
    /// An integer.
    Long(i64),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// A decimal's digits at [`DECIMAL_SCALE`].
    Decimal(i128),
}

/// Digits after the point of a `_valid_from` that is a decimal.
pub const DECIMAL_SCALE: i8 = 9;

/// An encoded sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    encoded: Box<[u8]>,
    first: SequencePart,
}

/// Text that is no value of its sequence type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The text does not read as the type.
    #[error("the sequence is not a {0}")]
    NotA(&'static str),
    /// `_valid_from` could not hold the value.
    #[error("the sequence has more digits than a decimal(38, {DECIMAL_SCALE}) holds")]
    TooLong,
    /// A number tells no time that an [`Instant`] holds.
    #[error(
        "counted in {unit}, the number is no time of the years -9999 to 9999; with \
         \"unit\": \"{}\" it is one",
        .fits.as_str()
    )]
    Beyond {
        /// In what it was counted.
        unit: TimeUnit,
        /// The longest unit in which it is a time.
        fits: TimeUnit,
    },
    /// There are fewer or more parts than declared.
    #[error("the sequence has {found} parts where {expected} are declared")]
    Parts {
        /// How many are declared.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl Sequence {
    /// The whole sequence; bytes compare as the values do.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The whole sequence as it stands in `_seq`.
    pub fn hex(&self) -> String {
        hex::encode(&self.encoded)
    }

    /// The first part: `_valid_from`.
    pub fn first(&self) -> SequencePart {
        self.first
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Collects the parts of one sequence.
#[derive(Debug, Default)]
pub struct SequenceBuilder {
    encoded: Vec<u8>,
    first: Option<SequencePart>,
}

impl SequenceBuilder {
    /// Adds an integer.
    pub fn long(&mut self, value: i64) {
        self.encoded.extend_from_slice(&flip(value));
        self.first.get_or_insert(SequencePart::Long(value));
    }

    /// Adds an instant.
    pub fn timestamp(&mut self, value: impl Into<Instant>) {
        let Instant { seconds, nanos } = value.into();
        self.encoded.extend_from_slice(&flip(seconds));
        self.encoded.extend_from_slice(&nanos.to_be_bytes());
        self.first.get_or_insert(SequencePart::Timestamp(value_micros(seconds, nanos)));
    }

    /// Adds a part given as text, or as the bytes of a JSON string or number without its quotes.
    pub fn text(
        &mut self,
        kind: SequenceType,
        text: &str,
        zone: &TimeZone,
    ) -> Result<(), SequenceError> {
        let text = text.trim();
        match kind {
            SequenceType::Long => {
                self.long(text.parse().map_err(|_| SequenceError::NotA("long"))?);
            }
            SequenceType::Timestamp => self.timestamp(parse_instant(text, zone)?),
            SequenceType::Decimal => {
                let decimal = Decimal::parse(text).ok_or(SequenceError::NotA("decimal"))?;
                if self.first.is_none() {
                    self.first = Some(SequencePart::Decimal(decimal.scaled()?));
                }
                decimal.encode(&mut self.encoded);
            }
            SequenceType::Lsn => {
                let lsn = parse_lsn(text).ok_or(SequenceError::NotA("lsn"))?;
                self.encoded.extend_from_slice(&lsn.to_be_bytes());
                self.first.get_or_insert(SequencePart::Decimal(whole(u128::from(lsn))));
            }
            SequenceType::Binlog => {
                let (file, at) = parse_binlog(text).ok_or(SequenceError::NotA("binlog"))?;
                self.encoded.extend_from_slice(&file.to_be_bytes());
                self.encoded.extend_from_slice(&at.to_be_bytes());
                let both = (u128::from(file) << 32) | u128::from(at);
                self.first.get_or_insert(SequencePart::Decimal(whole(both)));
            }
        }
        Ok(())
    }

    /// The sequence; `None` if it has no part.
    pub fn finish(self) -> Option<Sequence> {
        Some(Sequence { encoded: self.encoded.into_boxed_slice(), first: self.first? })
    }
}

/// The first part of an encoded sequence whose first part is of type `kind`: what
/// [`Sequence::first`] gave when it was made. `None` if the bytes are no such sequence.
pub fn first_of(kind: SequenceType, encoded: &[u8]) -> Option<SequencePart> {
    let long = |bytes: &[u8]| {
        let bytes: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
        Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
    };
    Some(match kind {
        SequenceType::Long => SequencePart::Long(long(encoded)?),
        SequenceType::Timestamp => {
            let nanos: [u8; 4] = encoded.get(8..12)?.try_into().ok()?;
            let micros = i64::from(u32::from_be_bytes(nanos) / 1_000);
            SequencePart::Timestamp(long(encoded)?.checked_mul(1_000_000)?.checked_add(micros)?)
        }
        SequenceType::Lsn => {
            let bytes: [u8; 8] = encoded.get(..8)?.try_into().ok()?;
            SequencePart::Decimal(whole(u128::from(u64::from_be_bytes(bytes))))
        }
        SequenceType::Binlog => {
            let file: [u8; 8] = encoded.get(..8)?.try_into().ok()?;
            let at: [u8; 4] = encoded.get(8..12)?.try_into().ok()?;
            let file = u128::from(u64::from_be_bytes(file));
            SequencePart::Decimal(whole((file << 32) | u128::from(u32::from_be_bytes(at))))
        }
        SequenceType::Decimal => SequencePart::Decimal(Decimal::decode(encoded)?.scaled().ok()?),
    })
}

/// Big-endian with the sign flipped: bytes compare as the integers do.
fn flip(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}

/// An unsigned whole number at the decimal scale. Both users stay below 2^96.
fn whole(value: u128) -> i128 {
    (value as i128) * 10i128.pow(DECIMAL_SCALE as u32)
}

fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |hex: &str| u32::from_str_radix(hex, 16).ok();
    Some((u64::from(half(high)?) << 32) | u64::from(half(low)?))
}

fn parse_binlog(text: &str) -> Option<(u64, u32)> {
    let (file, at) = text.rsplit_once(':')?;
    let number = file.rsplit_once('.').map_or(file, |(_, number)| number);
    Some((number.parse().ok()?, at.parse().ok()?))
}

/// A decimal as sign, digits without leading or trailing zeros, and the exponent of `0.d1d2d3…`.
struct Decimal {
    sign: Sign,
    digits: Vec<u8>,
    exponent: i32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if all.len() > 1_000 || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let leading = all.iter().take_while(|d| **d == b'0').count();
        let trailing = all.iter().rev().take_while(|d| **d == b'0').count();
        if leading == all.len() {
            return Some(Self { sign: Sign::NoSign, digits: Vec::new(), exponent: 0 });
        }
        let digits = all[leading..all.len() - trailing].to_vec();
        let exponent = i32::try_from(whole.len()).ok()? - i32::try_from(leading).ok()?;
        let exponent = exponent.checked_add(power)?;
        Some(Self { sign: if negative { Sign::Minus } else { Sign::Plus }, digits, exponent })
    }

    /// The value at the decimal scale, exactly.
    fn scaled(&self) -> Result<i128, SequenceError> {
        let shift = i64::from(self.exponent) - self.digits.len() as i64 + i64::from(DECIMAL_SCALE);
        if shift < 0 || i64::from(self.exponent) + i64::from(DECIMAL_SCALE) > 38 {
            return if self.sign == Sign::NoSign { Ok(0) } else { Err(SequenceError::TooLong) };
        }
        let digits = BigInt::parse_bytes(&self.digits, 10).unwrap_or_default();
        let value = digits * BigInt::from(10).pow(shift as u32);
        let value = i128::try_from(value).map_err(|_| SequenceError::TooLong)?;
        Ok(if self.sign == Sign::Minus { -value } else { value })
    }

    /// Reads what `encode` wrote at the beginning of `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sign, rest) = bytes.split_first()?;
        let flip = match sign {
            1 => 0xff,
            2 => return Some(Self { sign: Sign::NoSign, digits: Vec::new(), exponent: 0 }),
            3 => 0,
            _ => return None,
        };
        let exponent: [u8; 4] = rest.get(..4)?.try_into().ok()?;
        let exponent = u32::from_be_bytes(exponent.map(|byte| byte ^ flip)) ^ (1 << 31);
        let digits = rest[4..].iter().map(|byte| byte ^ flip).take_while(|byte| *byte != 0);
        let digits = digits.map(|byte| (byte - 1).checked_add(b'0')).collect::<Option<Vec<_>>>()?;
        let sign = if *sign == 1 { Sign::Minus } else { Sign::Plus };
        Some(Self { sign, digits, exponent: exponent as i32 })
    }

    /// Sign, exponent, digits, end; all but the sign inverted for negatives.
    fn encode(&self, out: &mut Vec<u8>) {
        match self.sign {
            Sign::Minus => out.push(1),
            Sign::NoSign => {
                out.push(2);
                return;
            }
            Sign::Plus => out.push(3),
        }
        let begin = out.len();
        out.extend_from_slice(&((self.exponent as u32) ^ (1 << 31)).to_be_bytes());
        out.extend(self.digits.iter().map(|digit| digit - b'0' + 1));
        out.push(0);
        if self.sign == Sign::Minus {
            out[begin..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: SequenceType, text: &str) -> Sequence {
        let mut builder = SequenceBuilder::default();
        builder.text(kind, text, &TimeZone::UTC).unwrap();
        builder.finish().unwrap()
    }

    fn ascending(kind: SequenceType, texts: &[&str]) {
        let all: Vec<_> = texts.iter().map(|text| one(kind, text)).collect();
        for pair in all.windows(2) {
            assert!(pair[0].encoded() < pair[1].encoded(), "{pair:?}");
            assert!(pair[0].first() <= pair[1].first(), "{pair:?}");
        }
    }

    #[test]
    fn encodings_compare_as_their_values_do() {
        ascending(
            SequenceType::Long,
            &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"],
        );
        ascending(
            SequenceType::Timestamp,
            &[
                "0001-01-01T00:00:00Z",
                "1969-12-31T23:59:59.9999999Z",
                "1970-01-01T00:00:00Z",
                "2026-01-01T00:00:00+02:00",
                "2026-01-01T00:00:00.000000001Z",
                "9999-12-30T00:00:00Z",
                "9999-12-31T23:59:59.999999Z",
            ],
        );
        ascending(
            SequenceType::Decimal,
            &[
                "-100", "-10.5", "-10", "-9", "-0.001", "0", "0.001", "0.01", "9", "9.5", "10",
                "1e3", "1000.5",
            ],
        );
        ascending(SequenceType::Lsn, &["0/1", "0/FFFFFFFF", "1/0", "16/B374D848"]);
        ascending(SequenceType::Binlog, &["b.000009:4", "b.000010:4", "b.000010:5", "b.999999:1"]);
    }

    #[test]
    fn the_first_part_comes_back_from_the_encoding() {
        for (kind, text) in [
            (SequenceType::Long, "-5"),
            (SequenceType::Timestamp, "1969-12-31T23:59:59.9999999Z"),
            (SequenceType::Timestamp, "2026-01-01T00:00:00.123456789Z"),
            (SequenceType::Decimal, "-10.5"),
            (SequenceType::Decimal, "0"),
            (SequenceType::Decimal, "1234.000000001"),
            (SequenceType::Lsn, "16/B374D848"),
            (SequenceType::Binlog, "mysql-bin.000003:154"),
        ] {
            let sequence = one(kind, text);
            assert_eq!(first_of(kind, sequence.encoded()), Some(sequence.first()), "{text}");
        }
    }

    #[test]
    fn equal_values_have_equal_encodings() {
        assert_eq!(one(SequenceType::Decimal, "1.00"), one(SequenceType::Decimal, "1"));
        assert_eq!(one(SequenceType::Decimal, "-0"), one(SequenceType::Decimal, "0.0"));
        assert_eq!(
            one(SequenceType::Timestamp, "2026-01-01T01:00:00+01:00"),
            one(SequenceType::Timestamp, "2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn the_encoding_never_changes_between_releases() {
        assert_eq!(one(SequenceType::Long, "5").hex(), "8000000000000005");
        assert_eq!(
            one(SequenceType::Timestamp, "1970-01-01T00:00:01.5Z").hex(),
            "80000000000000011dcd6500"
        );
        assert_eq!(one(SequenceType::Decimal, "-10.5").hex(), "017ffffffdfdfef9ff");
        assert_eq!(one(SequenceType::Lsn, "16/B374D848").hex(), "00000016b374d848");
        assert_eq!(
            one(SequenceType::Binlog, "mysql-bin.000003:154").hex(),
            "00000000000000030000009a"
        );
    }
}
