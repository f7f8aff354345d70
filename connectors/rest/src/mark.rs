//! A mark: how high the cursor column of a delta load has been read. Pure.

use std::cmp::Ordering;

use alluvium_model::sequence::parse_timestamp;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::settings::Format;

/// A value of the cursor column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// An instant.
    Time(Timestamp),
    /// A number that is no time.
    Number(Number),
    /// A text that is not read as a time.
    Text(String),
}

impl Mark {
    /// Reads the value of a record; `None` if it is null or cannot be read in this format.
    pub(crate) fn read(json: &RawValue, format: Format, zone: &TimeZone) -> Option<Self> {
        match serde_json::from_str(json.get()).ok()? {
            Value::String(text) => Self::parse(&text, format, zone),
            Value::Number(number) => Self::number(number, format),
            _ => None,
        }
    }

    /// Reads a text, such as the `initial` of the metadata.
    pub(crate) fn parse(text: &str, format: Format, zone: &TimeZone) -> Option<Self> {
        if format == Format::Raw {
            return Some(match text.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => Self::Text(text.to_owned()),
            });
        }
        match parse_timestamp(text, zone) {
            Ok(time) => Some(Self::Time(time)),
            Err(_) => Self::number(text.trim().parse().ok()?, format),
        }
    }

    fn number(number: Number, format: Format) -> Option<Self> {
        let unit = match format {
            Format::Raw => return Some(Self::Number(number)),
            Format::Unix => 1e9,
            Format::Iso8601 | Format::UnixMs => 1e6,
        };
        let nanos = match number.as_i64() {
            Some(whole) => i128::from(whole) * unit as i128,
            None => (number.as_f64()? * unit) as i128,
        };
        Timestamp::from_nanosecond(nanos).ok().map(Self::Time)
    }

    /// The order of two marks of one column.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => compare_numbers(a, b),
            (Self::Text(a), Self::Text(b)) => match (a.parse(), b.parse()) {
                (Ok(a), Ok(b)) => Timestamp::cmp(&a, &b),
                _ => a.cmp(b),
            },
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Time(_) => 1,
            Self::Text(_) => 2,
        }
    }

    /// The higher of two.
    pub(crate) fn max(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if a.compare(&b).is_lt() { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// So far back; `None` for a text that is no time.
    pub(crate) fn back(&self, overlap: u64) -> Option<Self> {
        let seconds = SignedDuration::from_secs(i64::try_from(overlap).unwrap_or(i64::MAX));
        let earlier = |time: Timestamp| time.checked_sub(seconds).unwrap_or(Timestamp::MIN);
        Some(match self {
            _ if overlap == 0 => self.clone(),
            Self::Time(time) => Self::Time(earlier(*time)),
            Self::Number(number) => Self::Number(match number.as_i64() {
                Some(whole) => whole.saturating_sub(i64::try_from(overlap).ok()?).into(),
                None => Number::from_f64(number.as_f64()? - overlap as f64)?,
            }),
            Self::Text(text) => Self::Text(earlier(text.parse().ok()?).to_string()),
        })
    }

    /// Not above `now`: a source with a wrong clock must not push the mark into the future, where
    /// nothing would be read any more.
    pub(crate) fn at_most(self, now: Timestamp) -> Self {
        match self {
            Self::Time(time) => Self::Time(time.min(now)),
            Self::Text(text) if text.parse().is_ok_and(|time: Timestamp| time > now) => {
                Self::Text(now.to_string())
            }
            other => other,
        }
    }

    /// The mark as a parameter, rounded down.
    pub(crate) fn as_param(&self, format: Format) -> String {
        match (self, format) {
            (Self::Time(time), Format::Unix) => time.as_second_floor().to_string(),
            (Self::Time(time), Format::UnixMs) => time.as_millisecond_floor().to_string(),
            (Self::Time(time), _) => Timestamp::from_millisecond(time.as_millisecond_floor())
                .unwrap_or(*time)
                .to_string(),
            (Self::Number(number), _) => number.to_string(),
            (Self::Text(text), _) => text.clone(),
        }
    }

    /// Milliseconds since 1970, if the mark is a time.
    pub(crate) fn as_millisecond(&self) -> Option<i64> {
        match self {
            Self::Time(time) => Some(time.as_millisecond_floor()),
            Self::Text(text) => text.parse::<Timestamp>().ok().map(|t| t.as_millisecond_floor()),
            Self::Number(_) => None,
        }
    }
}

/// Rounding down, before 1970 too.
trait Floor {
    fn as_second_floor(&self) -> i64;
    fn as_millisecond_floor(&self) -> i64;
}

impl Floor for Timestamp {
    fn as_second_floor(&self) -> i64 {
        self.as_nanosecond().div_euclid(1_000_000_000) as i64
    }
    fn as_millisecond_floor(&self) -> i64 {
        self.as_nanosecond().div_euclid(1_000_000) as i64
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(json: &str, format: Format) -> Option<Mark> {
        Mark::read(&RawValue::from_string(json.to_owned()).unwrap(), format, &TimeZone::UTC)
    }

    #[test]
    fn a_value_is_read_in_its_format_and_written_back_in_it() {
        let iso = "2018-02-07T01:29:56.303Z";
        let cases = [
            ("1517966996303", Format::Iso8601, iso),
            ("1517966996303", Format::UnixMs, "1517966996303"),
            ("\"1517966996303\"", Format::UnixMs, "1517966996303"),
            ("1517966996", Format::Unix, "1517966996"),
            ("1517966996.9", Format::Unix, "1517966996"),
            ("\"2018-02-07T02:29:56.303999+01:00\"", Format::Iso8601, iso),
            ("\"2018-02-07 01:29:56.303\"", Format::Iso8601, iso),
            ("17", Format::Raw, "17"),
            ("\"v17\"", Format::Raw, "v17"),
        ];
        for (json, format, param) in cases {
            assert_eq!(mark(json, format).unwrap().as_param(format), param, "{json}");
        }
        for (json, format) in
            [("null", Format::Raw), ("true", Format::Raw), ("\"x\"", Format::Unix)]
        {
            assert_eq!(mark(json, format), None, "{json}");
        }
    }

    #[test]
    fn marks_compare_as_numbers_and_as_instants() {
        let raw = |json| mark(json, Format::Raw).unwrap();
        assert!(raw("9").compare(&raw("10")).is_lt());
        assert!(raw("\"9\"").compare(&raw("\"10\"")).is_lt(), "numbers in quotes too");
        assert!(raw("9007199254740992").compare(&raw("9007199254740993")).is_lt(), "exactly");
        let (zulu, oslo) = ("\"2026-01-01T00:30:00Z\"", "\"2026-01-01T01:00:00+01:00\"");
        assert!(raw(oslo).compare(&raw(zulu)).is_lt());
    }

    #[test]
    fn an_overlap_reaches_back() {
        let back = |json, format| mark(json, format).unwrap().back(60).map(|m| m.as_param(format));
        assert_eq!(back("1517966996", Format::Unix).unwrap(), "1517966936");
        assert_eq!(back("100", Format::Raw).unwrap(), "40");
        assert_eq!(back("\"2026-01-01T00:00:00Z\"", Format::Raw).unwrap(), "2025-12-31T23:59:00Z");
        assert_eq!(back("\"v17\"", Format::Raw), None);
    }

    #[test]
    fn a_source_with_a_wrong_clock_does_not_push_the_mark_into_the_future() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let future = mark("\"2126-01-01T00:00:00Z\"", Format::Iso8601).unwrap();
        assert_eq!(future.at_most(now), Mark::Time(now));
    }
}
