//! Writing the records of a page: changes as envelopes, control records in messages of their own.

use std::fmt::Write as _;

use alluvium_model::{Change, Control, EncodedMessage, EncodedPage, Headers, Op, Record};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::WireError;
use crate::headers::{self, PublishContext, base_headers, message_headers};
use crate::raw::is_object;

/// How large a message becomes, in bytes of payload. A larger record has a message of its own.
pub const MESSAGE_BYTES: usize = 256 * 1024;

/// Writes the records of a page, in their order, several to a message.
///
/// # Errors
/// A change without the row that its operation needs, or whose old key is no JSON object.
pub fn encode_page(records: &[Record], context: &PublishContext) -> Result<EncodedPage, WireError> {
    let mut page = Writer::new(context);
    let mut line = String::new();
    for (index, record) in records.iter().enumerate() {
        line.clear();
        let written = match record {
            Record::Change(change) => page.envelope(&mut line, change),
            Record::Control(control) => control_line(&mut line, control),
        };
        written.map_err(|reason| WireError::Record {
            index,
            entity: context.entity.clone(),
            reason,
        })?;
        page.push(&line, matches!(record, Record::Control(_)));
    }
    Ok(page.finish())
}

/// Messages, the last of which is still growing.
struct Writer<'c> {
    context: &'c PublishContext,
    base: Headers,
    /// What all envelopes' `source` begins with.
    source: String,
    now_ms: i64,
    ordinal: u64,
    page: EncodedPage,
    payload: String,
    records: u32,
    control: bool,
}

impl<'c> Writer<'c> {
    fn new(context: &'c PublishContext) -> Self {
        let entity = &context.entity;
        Self {
            context,
            base: base_headers(context),
            // Names are of a-z, 0-9 and _: nothing to escape.
            source: format!(r#"{{"system":"{}","entity":"{}""#, entity.system, entity.entity),
            now_ms: context.now.as_millisecond(),
            ordinal: context.ordinal,
            page: EncodedPage::default(),
            payload: String::new(),
            records: 0,
            control: false,
        }
    }

    fn envelope(&self, line: &mut String, change: &Change) -> Result<(), String> {
        check(change)?;
        line.push_str(r#"{"op":""#);
        line.push_str(change.op.as_str());
        line.push_str(r#"","before":"#);
        // Who knows only Debezium's envelope must see which row is no more.
        push_row(line, change.before.as_deref().or(change.old_key.as_deref()));
        line.push_str(r#","after":"#);
        push_row(line, change.after.as_deref());
        line.push_str(r#","source":"#);
        line.push_str(&self.source);
        if let Some(ms) = change.changed_at_ms {
            push_member(line, "ts_ms", &ms)?;
        }
        if let Some(snapshot) = &change.snapshot {
            push_member(line, "snapshot", snapshot)?;
        }
        if !change.sequence.is_empty() {
            push_member(line, "sequence", &change.sequence)?;
        }
        if !change.unset.is_empty() {
            push_member(line, "unset", &change.unset)?;
        }
        if let Some(key) = &change.old_key {
            line.push_str(r#","old_key":"#);
            push_row(line, Some(key));
        }
        if let Some(origin) = &change.origin {
            line.push_str(r#","origin":"#);
            push_row(line, Some(origin));
        }
        write!(line, r#"}},"ts_ms":{}}}"#, self.now_ms).map_err(|error| error.to_string())
    }

    fn push(&mut self, line: &str, control: bool) {
        let is_full = self.payload.len() + 1 + line.len() > MESSAGE_BYTES;
        if self.records > 0 && (is_full || control != self.control) {
            self.close();
        }
        if self.records > 0 {
            self.payload.push('\n');
        }
        self.payload.push_str(line);
        self.control = control;
        self.records += 1;
    }

    fn close(&mut self) {
        let mut headers =
            message_headers(&self.base, self.context, self.ordinal, self.records, self.control);
        headers = headers.with(headers::FORMAT, headers::FORMAT_ENVELOPE);
        let payload = Bytes::from(std::mem::take(&mut self.payload));
        self.ordinal += u64::from(self.records);
        self.page.messages.push(EncodedMessage { headers, payload, records: self.records });
        self.records = 0;
    }

    fn finish(mut self) -> EncodedPage {
        if self.records > 0 {
            self.close();
        }
        self.page
    }
}

/// What a reader would refuse is not sent.
fn check(change: &Change) -> Result<(), String> {
    let op = change.op.as_str();
    let missing = match change.op {
        Op::Create | Op::Update | Op::Read => change.after.is_none(),
        Op::Delete => change.before.is_none(),
        Op::Truncate => false,
    };
    if missing {
        return Err(format!("a change of operation `{op}` has no row"));
    }
    // A row that is no object is the source's fault: it is sent, and quarantined where it is read.
    match &change.old_key {
        Some(key) if !is_object(key) => {
            Err(format!("the old key of a change of operation `{op}` is no JSON object"))
        }
        _ => Ok(()),
    }
}

fn control_line(line: &mut String, control: &Control) -> Result<(), String> {
    *line = serde_json::to_string(control).map_err(|error| error.to_string())?;
    Ok(())
}

/// Copies the row's text without its line breaks: in JSON they stand only between tokens.
fn push_row(line: &mut String, row: Option<&RawValue>) {
    match row.map(RawValue::get) {
        None => line.push_str("null"),
        Some(text) => text.split(['\n', '\r']).for_each(|piece| line.push_str(piece)),
    }
}

fn push_member(line: &mut String, name: &str, value: &impl Serialize) -> Result<(), String> {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
    line.push_str(&serde_json::to_string(value).map_err(|error| error.to_string())?);
    Ok(())
}
