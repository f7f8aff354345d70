//! Reading a line again: the hot path. A line is scanned once and everything is borrowed from it.

use std::borrow::Cow;

use alluvium_model::{Control, Headers, Op};
use serde_json::value::RawValue;

use crate::error::{Malformed, WireError};
use crate::mapped::Plan;
use crate::mapping::Mapping;
use crate::parts::Parts;
use crate::raw::is_object;
use crate::scan::{Broken, Scanner};
use crate::unsent::Placeholders;
use crate::{envelope, headers};

/// The snapshot of rows whose source tells only that they were read in one, as Debezium does
/// (`"snapshot":"true"`). It never ends, so it closes nothing.
pub const FOREIGN_SNAPSHOT: &str = "debezium";

/// Reads the lines of the messages that have the same headers.
#[derive(Debug)]
pub struct Decoder {
    shape: Shape,
    placeholders: Placeholders,
}

#[derive(Debug)]
enum Shape {
    Envelope,
    Plain,
    Map(Box<Plan>),
    Control,
}

/// What a line is.
#[derive(Debug)]
pub enum Line<'a> {
    /// A change.
    Change(ChangeView<'a>),
    /// A control record.
    Control(Control),
    /// Kafka's mark for compaction, which Debezium sends after a delete: `null`. It says nothing
    /// that the delete did not say.
    Tombstone,
}

/// A change, borrowed from its line.
#[derive(Debug)]
pub struct ChangeView<'a> {
    /// What happened.
    pub op: Op,
    /// The row: an object. After the change; before it, for a delete. `None` for a truncate, and
    /// for a delete that gives only the key.
    pub row: Option<&'a RawValue>,
    /// The row before, an object, where the source sent it.
    pub before: Option<&'a RawValue>,
    /// The parts of the key that the mapping names, none of them null. Empty where the key is to be
    /// taken from the row.
    pub key: Parts<'a>,
    /// The parts of the sequence that stand beside the row.
    pub sequence: Parts<'a>,
    /// When the row was changed in the source, in milliseconds since 1970.
    pub changed_at_ms: Option<i64>,
    /// The snapshot that the row was read in.
    pub snapshot: Option<Cow<'a, str>>,
    /// Columns that the source did not send.
    pub unset: Vec<Cow<'a, str>>,
    /// The key before, an object, where the change altered it.
    pub old_key: Option<&'a RawValue>,
}

impl<'a> ChangeView<'a> {
    pub(crate) fn new(op: Op) -> Self {
        Self {
            op,
            row: None,
            before: None,
            key: Parts::default(),
            sequence: Parts::default(),
            changed_at_ms: None,
            snapshot: None,
            unset: Vec::new(),
            old_key: None,
        }
    }

    /// Takes the row that fits the operation.
    pub(crate) fn with_rows(
        mut self,
        before: Option<&'a RawValue>,
        after: Option<&'a RawValue>,
    ) -> Result<Self, Malformed> {
        self.row = match self.op {
            Op::Truncate => None,
            Op::Delete => before.or(after),
            _ if after.is_none() => {
                let reason = format!("a change of operation `{}` has no row", self.op.as_str());
                return Err(Malformed::new(Malformed::BAD_ROW, reason));
            }
            _ => after,
        };
        self.before = before;
        for (row, what) in [(self.row, "row"), (before, "row before")] {
            if row.is_some_and(|row| !is_object(row)) {
                let reason = format!("the {what} is no JSON object");
                return Err(Malformed::new(Malformed::BAD_ROW, reason));
            }
        }
        Ok(self)
    }
}

impl Decoder {
    /// The decoder for messages with these headers. Without a format header the lines are
    /// envelopes, ours or Debezium's.
    ///
    /// # Errors
    /// An unknown kind or format, an unknown version of a format, a mapping that does not read.
    pub fn for_headers(headers: &Headers) -> Result<Self, WireError> {
        let shape = match (headers.get(headers::KIND), headers.get(headers::FORMAT)) {
            (None, None | Some(headers::FORMAT_ENVELOPE)) => Shape::Envelope,
            (None, Some(headers::FORMAT_PLAIN)) => Shape::Plain,
            (None, Some(headers::FORMAT_MAP)) => Shape::Map(Box::new(plan(headers)?)),
            (Some(headers::KIND_CONTROL), None | Some(headers::FORMAT_ENVELOPE)) => Shape::Control,
            (None | Some(headers::KIND_CONTROL), Some(format)) => {
                return Err(WireError::UnknownFormat(format.to_owned()));
            }
            (Some(kind), _) => return Err(WireError::UnknownKind(kind.to_owned())),
        };
        Ok(Self { shape, placeholders: Placeholders::new() })
    }

    /// Reads one line, given without its line feed.
    ///
    /// # Errors
    /// Why the line cannot be read; nothing in it is a value of the line.
    pub fn decode<'a>(&self, line: &'a [u8]) -> Result<Line<'a>, Malformed> {
        let text = text_of(line)?;
        let line = match &self.shape {
            Shape::Envelope => envelope::decode(text),
            Shape::Plain => plain(text),
            Shape::Map(plan) => plan.decode(text),
            Shape::Control => control(text),
        };
        let mut line = line.map_err(|malformed| explained(malformed, text))?;
        if let Line::Change(ChangeView { row: Some(row), unset, .. }) = &mut line {
            self.placeholders.add_to(unset, row);
        }
        Ok(line)
    }
}

fn plan(headers: &Headers) -> Result<Plan, WireError> {
    let json = headers.get(headers::MAP);
    let json = json.ok_or_else(|| WireError::Map("the header is missing".to_owned()))?;
    let mapping: Mapping =
        serde_json::from_str(json).map_err(|error| WireError::Map(error.to_string()))?;
    Ok(Plan::new(mapping))
}

/// A byte order mark, as some programs set it at the head of a file, is no part of the JSON.
fn text_of(line: &[u8]) -> Result<&str, Malformed> {
    match std::str::from_utf8(line) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let reason = format!("not UTF-8 from byte {}", error.valid_up_to());
            Err(Malformed::new(Malformed::UNPARSABLE, reason))
        }
    }
}

fn plain(text: &str) -> Result<Line<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    let row = scanner.value()?;
    scanner.end()?;
    ChangeView::new(Op::Update).with_rows(None, Some(row)).map(Line::Change)
}

fn control(text: &str) -> Result<Line<'_>, Malformed> {
    serde_json::from_str(text).map(Line::Control).map_err(|error| {
        // serde's words about JSON of another shape may quote values.
        match error.is_data() {
            true => Malformed::new(Malformed::BAD_CONTROL, "not a control record that we know"),
            false => Broken.into(),
        }
    })
}

/// What exactly is wrong with text that is no JSON: worth a second look, for it is rare.
fn explained(malformed: Malformed, text: &str) -> Malformed {
    match serde_json::from_str::<&RawValue>(text) {
        Err(error) if malformed.code == Malformed::UNPARSABLE => {
            Malformed::new(Malformed::UNPARSABLE, format!("not JSON: {error}"))
        }
        _ => malformed,
    }
}
