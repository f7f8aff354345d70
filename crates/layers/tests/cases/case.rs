//! A case as it stands in its file, and what its values and sequences mean.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use crate::reference::Seq;

/// A row as a case writes it.
pub(crate) type Object = serde_json::Map<String, Value>;

/// One line of a file of cases.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
    pub(crate) tracked: Tracked,
    #[serde(default)]
    pub(crate) options: Options,
    pub(crate) input: Vec<Input>,
    pub(crate) expected: Vec<Object>,
    /// Records that must be refused: their offset, and why.
    #[serde(default)]
    pub(crate) expected_rejects: Vec<(u64, String)>,
    #[serde(default)]
    expect_error: Option<ExpectedError>,
    /// Whether the result depends on the order of arrival, so that nothing may be shuffled.
    #[serde(default)]
    in_order: bool,
}

/// `"*"`, or names of columns; all others are updated in place.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Tracked {
    All(Star),
    Only(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) enum Star {
    #[serde(rename = "*")]
    Star,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) delete_mode: Option<String>,
    pub(crate) seq_type: Option<String>,
    pub(crate) tuple_ts: bool,
    pub(crate) source_tz: Option<String>,
    pub(crate) ignore_null_updates: Vec<String>,
    pub(crate) retire_absent: Option<bool>,
    pub(crate) snapshot_scope: Option<String>,
    pub(crate) snapshot_out_of_order: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct ExpectedError {
    off: u64,
    reason: String,
}

/// A record of a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(rename = "b")]
    pub(crate) batch: u64,
    pub(crate) off: u64,
    pub(crate) op: String,
    pub(crate) seq: Value,
    pub(crate) v: Object,
    #[serde(default)]
    pub(crate) unset: Vec<String>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    #[serde(default)]
    pub(crate) snap: Option<String>,
    #[serde(default)]
    pub(crate) old: Option<Object>,
    #[serde(default)]
    pub(crate) schema: SchemaMessage,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SchemaMessage {
    pub(crate) add: BTreeMap<String, String>,
    pub(crate) drop: Vec<String>,
    pub(crate) widen: BTreeMap<String, (String, String)>,
}

/// All cases of a file.
pub(crate) fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parse = |(number, line): (usize, &str)| {
        let case: Result<Case, _> = serde_json::from_str(line);
        case.unwrap_or_else(|error| panic!("{}, line {}: {error}", path.display(), number + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

impl Case {
    /// Whether the records may come in another order.
    pub(crate) fn may_be_shuffled(&self) -> bool {
        !self.in_order && self.options.snapshot_out_of_order.is_none()
    }

    /// Why the record at an offset must be refused, in our words; `None` if it must not.
    pub(crate) fn reject(&self, off: u64) -> Option<&str> {
        let error = self.expect_error.iter().map(|error| (error.off, &error.reason));
        let mut all = self.expected_rejects.iter().map(|(off, why)| (*off, why)).chain(error);
        all.find(|(at, _)| *at == off).map(|(_, reason)| match reason.as_str() {
            "null_key" => "missing_key",
            "incompatible_type" => "bad_type",
            other => other,
        })
    }

    /// The type of the sequence.
    pub(crate) fn seq_type(&self) -> &str {
        self.options.seq_type.as_deref().unwrap_or("int")
    }

    /// The parts of a sequence.
    pub(crate) fn parts<'v>(&self, seq: &'v Value) -> Vec<&'v Value> {
        match seq {
            Value::Array(parts) if self.seq_type() == "tuple" => parts.iter().collect(),
            other => vec![other],
        }
    }

    /// A sequence in the form that compares.
    pub(crate) fn seq(&self, seq: &Value) -> Seq {
        self.parts(seq).into_iter().map(|part| self.part(part)).collect()
    }

    /// How much of a sequence's first part is one unit of `_valid_from`: a timestamp's nanoseconds
    /// are stored as microseconds.
    pub(crate) fn unit(&self) -> i128 {
        if self.is_time() { 1_000 } else { 1 }
    }

    /// What `_valid_from` or `_valid_to` must be, from the source's form.
    pub(crate) fn bound(&self, value: &Value) -> Option<i128> {
        (!value.is_null()).then(|| self.part(value).div_euclid(self.unit()))
    }

    fn is_time(&self) -> bool {
        self.seq_type() == "timestamp" || self.options.tuple_ts
    }

    fn part(&self, part: &Value) -> i128 {
        match (self.seq_type(), part) {
            ("mysql", Value::Array(pair)) => {
                let (_, number) = pair[0].as_str().unwrap().rsplit_once('.').unwrap();
                let file: i128 = number.parse().unwrap();
                (file << 32 | i128::from(pair[1].as_u64().unwrap())) * BILLION
            }
            ("lsn", Value::String(text)) => {
                let (high, low) = text.split_once('/').unwrap();
                let half = |text| i128::from(u32::from_str_radix(text, 16).unwrap());
                (half(high) << 32 | half(low)) * BILLION
            }
            ("numeric_string", Value::String(text)) => billionths(text),
            ("timestamp" | "tuple", Value::String(text)) => {
                nanoseconds(text, self.options.source_tz.as_deref().unwrap_or("UTC"))
            }
            (_, Value::Number(number)) => i128::from(number.as_i64().unwrap()),
            (kind, other) => panic!("{}: {other} is no sequence of type {kind}", self.name),
        }
    }
}

/// Decimals of `_valid_from` are told in billionths.
const BILLION: i128 = 1_000_000_000;

fn billionths(text: &str) -> i128 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{whole}{fraction:0<9}").parse::<i128>().unwrap()
}

/// Nanoseconds since 1970, also of the last day of the year 9999.
fn nanoseconds(text: &str, zone: &str) -> i128 {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let civil = |text: &str| text.parse::<DateTime>().unwrap().duration_since(epoch).as_nanos();
    if let Some(text) = text.strip_suffix('Z') {
        return civil(text);
    }
    let clock = text.find('T').unwrap();
    match text[clock..].find(['+', '-']) {
        Some(at) => {
            let (text, offset) = text.split_at(clock + at);
            let minutes = |text: &str| text.parse::<i128>().unwrap();
            let east = minutes(&offset[1..3]) * 60 + minutes(&offset[4..6]);
            let east = if offset.starts_with('-') { -east } else { east };
            civil(text) - east * 60 * BILLION
        }
        None => {
            let zone = TimeZone::get(zone).unwrap();
            zone.to_zoned(text.parse().unwrap()).unwrap().timestamp().as_nanosecond()
        }
    }
}
