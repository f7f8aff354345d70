//! Whatever stands in a line, it is read or refused; nothing panics.

use alluvium_model::Headers;
use alluvium_wire::{
    Decoder, Line, LineFormat, Path, encode_lines, extract, for_each_member, headers, string_value,
};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::{change, context, decoder, refused};

fn decoders() -> Vec<Decoder> {
    let map = |json: &str| {
        let headers = Headers::default().with(headers::FORMAT, "map").with(headers::MAP, json);
        Decoder::for_headers(&headers).unwrap()
    };
    let control = Headers::default().with(headers::KIND, "control");
    vec![
        decoder("envelope/1"),
        decoder("plain"),
        map(r#"{"op":"op","sequence":["source.sequence"],"key":["after.id"],"row":"after"}"#),
        map(r#"{"op":"op","key":["$"]}"#),
        Decoder::for_headers(&control).unwrap(),
    ]
}

fn decode_all(line: &[u8]) {
    for decoder in decoders() {
        if let Ok(Line::Change(change)) = decoder.decode(line)
            && let Some(row) = change.row
        {
            for_each_member(row, |_, value| drop(string_value(value))).ok();
        }
    }
}

/// JSON and near-JSON: the tokens of the format, put together at random.
fn token_soup() -> impl Strategy<Value = String> {
    let tokens = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"op\"",
        "\"c\"",
        "\"d\"",
        "\"after\"",
        "\"before\"",
        "\"source\"",
        "\"payload\"",
        "\"schema\"",
        "\"sequence\"",
        "\"unset\"",
        "null",
        "true",
        "1e999",
        "-0",
        "\"\\ud800\"",
        "\"id\"",
        "\"__debezium_unavailable_value\"",
        " ",
        "\u{feff}",
        "{\"op\":\"c\",\"after\":{\"id\":1",
        "}}",
    ];
    proptest::collection::vec(proptest::sample::select(tokens), 0..30).prop_map(|t| t.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&line);
    }

    #[test]
    fn no_tokens_make_the_decoder_panic(line in token_soup()) {
        decode_all(line.as_bytes());
    }

    #[test]
    fn every_line_that_is_not_blank_travels(lines in proptest::collection::vec("[ -~\r]{0,40}", 0..50)) {
        let text = lines.join("\n");
        let messages = encode_lines(Bytes::from(text), &LineFormat::Plain, &context());
        let expected = lines.iter().filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(messages.iter().map(|m| m.records as usize).sum::<usize>(), expected);
    }

    #[test]
    fn no_text_makes_a_path_or_a_mapping_panic(text in "[a-c./$~'\\[\\]0-9+=:,]{0,30}") {
        text.parse::<alluvium_wire::Mapping>().ok();
        if let Ok(path) = text.parse::<Path>() {
            let value: &RawValue = serde_json::from_str(r#"{"a":{"b":[1,{"c":2}]}}"#).unwrap();
            extract(value, &path);
        }
    }
}

#[test]
fn deep_nesting_is_carried_and_does_not_overflow_the_stack() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let line = format!(r#"{{"op":"c","after":{{"a":{deep}}}}}"#);
    let decoder = decoder("envelope/1");
    assert_eq!(change(&decoder, &line).row.unwrap().get().len(), deep.len() + 6);
    let deep_key = format!(r#"{{"op":"c","after":{{}},"source":{{"sequence":{deep}}}}}"#);
    decode_all(deep_key.as_bytes());
    decode_all(deep.as_bytes());
}

#[test]
fn huge_numbers_are_carried_as_they_are() {
    let number = "9".repeat(10_000);
    let line = format!(r#"{{"op":"c","after":{{"a":{number}}},"source":{{"ts_ms":{number}}}}}"#);
    let decoder = decoder("envelope/1");
    let read = change(&decoder, &line);
    assert!(read.row.unwrap().get().contains(&number));
    assert_eq!(read.changed_at_ms, None);
}

#[test]
fn what_is_no_text_is_refused() {
    let malformed = decoder("plain").decode(b"{\"a\":\"\xff\"}").unwrap_err();
    assert_eq!(
        (malformed.code, malformed.reason.as_str()),
        ("unparsable", "not UTF-8 from byte 6")
    );
    assert_eq!(refused(&decoder("plain"), "{\"a\":\"\0\"}"), "unparsable");
}
