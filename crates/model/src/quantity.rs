//! Sizes and times as people write them: `64MB`, `60s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// How a size reads as text.
pub const SIZE_PATTERN: &str = "^[0-9]{1,15} ?([KkMmGgTt]i?)?[Bb]?$";
/// How a time reads as text.
pub const PERIOD_PATTERN: &str = "^[0-9]{1,9} ?(ms|s|m|h|d)?$";

const SIZES: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("ki", 1 << 10),
    ("m", 1_000_000),
    ("mi", 1 << 20),
    ("g", 1_000_000_000),
    ("gi", 1 << 30),
    ("t", 1_000_000_000_000),
    ("ti", 1 << 40),
];
const PERIODS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A number of bytes: `64MB` (64,000,000), `64MiB` (67,108,864), or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(transparent)]
pub struct ByteSize(#[schemars(with = "SizeText")] u64);

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A length of time: `500ms`, `60s`, `5m`, `12h`, `7d`, or a plain number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(transparent)]
pub struct Period(#[schemars(with = "PeriodText")] Duration);

impl Period {
    /// So long.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The length of time.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Text that is no size or no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QuantityError(&'static str);

const NO_SIZE: QuantityError = QuantityError("not a size: write bytes, or 64MB, 64MiB, 10GB");
const NO_PERIOD: QuantityError = QuantityError("not a time: write seconds, or 500ms, 60s, 5m, 7d");

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split(text).ok_or(NO_SIZE)?;
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix('b').unwrap_or(&unit);
        let factor = factor(&SIZES, unit).ok_or(NO_SIZE)?;
        number.checked_mul(factor).map(Self).ok_or(NO_SIZE)
    }
}

impl FromStr for Period {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split(text).ok_or(NO_PERIOD)?;
        let factor = factor(&PERIODS, unit).ok_or(NO_PERIOD)?;
        let millis = number.checked_mul(factor).ok_or(NO_PERIOD)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = largest(&SIZES, self.0);
        let unit = unit.to_uppercase().replace('I', "i");
        write!(f, "{}{unit}B", self.0 / factor)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) = largest(&PERIODS, millis);
        write!(f, "{}{}", millis / factor, if unit.is_empty() { "s" } else { unit })
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_of(deserializer, &NO_SIZE)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_of(deserializer, &NO_PERIOD)?.parse().map_err(D::Error::custom)
    }
}

fn text_of<'de, D: Deserializer<'de>>(
    deserializer: D,
    otherwise: &QuantityError,
) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom(otherwise)),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// The largest unit that holds the value without a rest.
fn largest<'u>(units: &[(&'u str, u64)], value: u64) -> (&'u str, u64) {
    let fitting = units.iter().filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let best = fitting.max_by_key(|(_, factor)| *factor).copied();
    best.unwrap_or_else(|| units.first().copied().unwrap_or(("", 1)))
}

/// The schema of a size: text of a form, or a number.
struct SizeText;

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"], "pattern": SIZE_PATTERN,
            "minimum": 0, "maximum": 999_999_999_999_999u64
        })
    }
}

/// The schema of a time: text of a form, or a number of seconds.
struct PeriodText;

impl JsonSchema for PeriodText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"], "pattern": PERIOD_PATTERN,
            "minimum": 0, "maximum": 999_999_999u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("7", 7),
            ("64MB", 64_000_000),
            ("256KiB", 262_144),
            ("1 gib", 1 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for bad in ["", "MB", "1.5MB", "-1", "3 apples", "99999999999999999999", "99999999999TB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_read_as_people_write_them() {
        for (text, millis) in [("60", 60_000), ("500ms", 500), ("5m", 300_000), ("7d", 604_800_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap().duration().as_millis(), millis, "{text}");
        }
        for bad in ["", "s", "5 weeks", "-5s", "1.5h"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 999, 1_000, 1 << 20, 64_000_000, 1_500_000] {
            let size = ByteSize::new(bytes);
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size, "{size}");
        }
        assert_eq!(ByteSize::new(64_000_000).to_string(), "64MB");
        assert_eq!(ByteSize::new(1 << 20).to_string(), "1MiB");
        for millis in [0, 1, 1_000, 60_000, 90_000, 604_800_000] {
            let period = Period::new(Duration::from_millis(millis));
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period, "{period}");
        }
        assert_eq!(Period::new(Duration::from_secs(60)).to_string(), "1m");
    }
}
