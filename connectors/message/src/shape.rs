//! What a record of a message is, and what it says.

use alluvium_model::{Headers, Op, SourceError};
use alluvium_wire::{
    Decoder, Line, Malformed, Mapping, Path, WireError, extract, for_each_member, headers,
};
use serde_json::value::RawValue;

use crate::settings::{Format, MessageEntity};

/// How the records of an entity are read.
pub(crate) struct Shapes {
    format: Format,
    envelope: Decoder,
    plain: Decoder,
    mapped: Option<Decoder>,
}

/// What a record says.
pub(crate) struct Told<'a> {
    /// A change, a control record, or nothing.
    pub(crate) line: Line<'a>,
    /// The envelope, without its schema, if it is one.
    pub(crate) envelope: Option<&'a RawValue>,
}

/// What Alluvium's own headers say of a message.
pub(crate) struct Own {
    decoder: Decoder,
    is_envelope: bool,
}

impl Own {
    /// `None` for a message that Alluvium did not publish.
    pub(crate) fn of(message: &Headers) -> Option<Result<Self, WireError>> {
        let format = message.get(headers::FORMAT);
        if format.is_none() && message.get(headers::KIND).is_none() {
            return None;
        }
        let is_envelope = format.is_none_or(|format| format == headers::FORMAT_ENVELOPE);
        Some(Decoder::for_headers(message).map(|decoder| Self { decoder, is_envelope }))
    }
}

impl Shapes {
    pub(crate) fn new(settings: &MessageEntity) -> Result<Self, SourceError> {
        let decoder = |format: &str, map: Option<String>| {
            let headers = Headers::default().with(headers::FORMAT, format);
            let headers = map.into_iter().fold(headers, |h, map| h.with(headers::MAP, map));
            Decoder::for_headers(&headers)
                .map_err(|error| SourceError::Misconfigured(error.to_string()))
        };
        let mapping = settings.map.clone().map(|mapping| match settings.format {
            Format::Debezium => in_event(mapping),
            Format::Auto | Format::Plain => mapping,
        });
        let mapped =
            mapping.map(|m| decoder(headers::FORMAT_MAP, Some(m.to_json()))).transpose()?;
        Ok(Self {
            format: settings.format,
            envelope: decoder(headers::FORMAT_ENVELOPE, None)?,
            plain: decoder(headers::FORMAT_PLAIN, None)?,
            mapped,
        })
    }

    /// Reads a record.
    pub(crate) fn read<'a>(
        &self,
        piece: &'a [u8],
        own: Option<&Own>,
    ) -> Result<Told<'a>, Malformed> {
        let json = parse(piece);
        if let Some(own) = own.filter(|_| self.format == Format::Auto && self.mapped.is_none()) {
            let line = own.decoder.decode(piece)?;
            return Ok(Told { line, envelope: json.filter(|_| own.is_envelope) });
        }
        match (self.format, &self.mapped, json) {
            (Format::Debezium, mapped, _) => self.event(piece, json, mapped.as_ref()),
            (_, Some(mapped), _) => Ok(Told { line: mapped.decode(piece)?, envelope: None }),
            (Format::Auto, None, Some(json)) if is_envelope(unwrapped(json)) => {
                self.event(piece, Some(json), None)
            }
            (_, None, Some(json)) => self.plain(unwrapped(json)),
            (_, None, None) => Ok(Told { line: self.plain.decode(piece)?, envelope: None }),
        }
    }

    /// Debezium's event; a mapping says where its sequence and key stand.
    fn event<'a>(
        &self,
        piece: &'a [u8],
        json: Option<&'a RawValue>,
        mapped: Option<&Decoder>,
    ) -> Result<Told<'a>, Malformed> {
        let mut line = self.envelope.decode(piece)?;
        let envelope = json.map(unwrapped);
        if let (Line::Change(change), Some(mapped), Some(event)) = (&mut line, mapped, envelope)
            && let Line::Change(found) = mapped.decode(event.get().as_bytes())?
        {
            change.sequence = found.sequence;
            change.key = found.key;
        }
        Ok(Told { line, envelope })
    }

    fn plain<'a>(&self, row: &'a RawValue) -> Result<Told<'a>, Malformed> {
        let line = match row.get() {
            "null" => Line::Tombstone,
            text => self.plain.decode(text.as_bytes())?,
        };
        Ok(Told { line, envelope: None })
    }
}

/// A mapping of sequence and key in Debezium's event.
fn in_event(mapping: Mapping) -> Mapping {
    let or = |path: Option<Path>, name: &str| path.or_else(|| Some(Path::member(name)));
    Mapping {
        op: or(mapping.op, "op"),
        row: or(mapping.row, "after"),
        before: or(mapping.before, "before"),
        ..mapping
    }
}

fn parse(piece: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(piece).ok()?;
    serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()
}

/// What stands beside a schema: the converters of Kafka Connect write both, and nothing else.
pub(crate) fn unwrapped(value: &RawValue) -> &RawValue {
    if !value.get().starts_with('{') {
        return value;
    }
    let (mut members, mut schema) = (0, None);
    let visited = for_each_member(value, |name, member| {
        members += 1;
        if name == "schema" {
            schema = Some(member);
        }
    });
    let is_schema = |schema: &RawValue| match schema.get() {
        "null" => true,
        _ => extract(schema, &Path::member("type")).is_some(),
    };
    match extract(value, &Path::member("payload")) {
        Some(payload) if visited.is_ok() && members == 2 && schema.is_some_and(is_schema) => {
            payload
        }
        _ => value,
    }
}

/// An operation that Debezium knows, and rows.
fn is_envelope(value: &RawValue) -> bool {
    if !value.get().starts_with('{') {
        return false;
    }
    let (mut has_op, mut has_rows) = (false, false);
    let visited = for_each_member(value, |name, member| match &*name {
        "op" => {
            let op = member.get().trim_matches('"');
            has_op = op.len() == 1 && (Op::parse(op).is_some() || op == "m");
        }
        "before" | "after" | "source" => has_rows = true,
        _ => {}
    });
    visited.is_ok() && has_op && has_rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shapes(settings: serde_json::Value) -> Shapes {
        Shapes::new(&serde_json::from_value(settings).unwrap()).unwrap()
    }

    /// The operation, the row and the sequence of what is read.
    fn read(shapes: &Shapes, piece: &str) -> String {
        match shapes.read(piece.as_bytes(), None) {
            Ok(Told { line: Line::Change(change), .. }) => {
                let row = change.row.map_or("-", RawValue::get);
                let parts: Vec<_> = change.sequence.iter().map(|part| part.get()).collect();
                format!("{} {row} {}", change.op.as_str(), parts.join(","))
            }
            Ok(Told { line, .. }) => format!("{line:?}"),
            Err(malformed) => malformed.code.to_owned(),
        }
    }

    const EVENT: &str = r#"{"before":null,"after":{"id":1},"op":"c","source":{"lsn":7,"ts_ms":5}}"#;

    #[test]
    fn each_message_is_told_by_itself() {
        let auto = shapes(json!({}));
        let wrapped = |payload: &str| {
            format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{payload}}}"#)
        };
        for (piece, expected) in [
            (EVENT, r#"c {"id":1} "#),
            (&wrapped(EVENT), r#"c {"id":1} "#),
            (&wrapped(r#"{"id":1}"#), r#"u {"id":1} "#),
            (&wrapped("null"), "Tombstone"),
            ("null", "Tombstone"),
            (r#"{"op":"sell","before":3}"#, r#"u {"op":"sell","before":3} "#),
            (r#"{"schema":"s","payload":1}"#, r#"u {"schema":"s","payload":1} "#),
            (r#"{"op":"m","source":{},"message":{}}"#, "unknown_op"),
            ("5", "bad_row"),
            ("{broken", "unparsable"),
        ] {
            assert_eq!(read(&auto, piece), expected, "{piece}");
        }
    }

    #[test]
    fn what_is_declared_is_not_guessed() {
        let plain = shapes(json!({"format": "plain"}));
        assert!(read(&plain, EVENT).starts_with("u {\"before\""));
        let debezium = shapes(json!({"format": "debezium"}));
        assert_eq!(read(&debezium, r#"{"id":1}"#), "bad_envelope");
    }

    #[test]
    fn a_mapping_reads_other_shapes_and_the_sequence_of_debeziums() {
        let map = "op=kind,row=data,sequence=n,ops=add:c";
        let mapped = shapes(json!({"map": map}));
        assert_eq!(read(&mapped, r#"{"kind":"add","n":3,"data":{"id":1}}"#), r#"c {"id":1} 3"#);
        assert_eq!(read(&mapped, r#"{"kind":"add","data":{"id":1}}"#), "missing_sequence");
        let map = "sequence=source.ts_ms+source.lsn";
        let debezium = shapes(json!({"format": "debezium", "map": map}));
        assert_eq!(read(&debezium, EVENT), r#"c {"id":1} 5,7"#);
        let wrapped = format!(r#"{{"schema":null,"payload":{EVENT}}}"#);
        assert_eq!(read(&debezium, &wrapped), r#"c {"id":1} 5,7"#);
    }
}
