//! The wire format from outside: golden files, round trips, the shapes that are accepted, and that
//! nothing makes it panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions end the test")]

mod accepted;
mod batching;
mod documented;
mod golden;
mod hostile;
mod mapped;

use alluvium_model::{Headers, Op, RunId};
use alluvium_wire::{ChangeView, Decoder, Line, PublishContext, headers};
use serde_json::value::RawValue;

/// A delivery of `shop.orders`, at a fixed time.
fn context() -> PublishContext {
    PublishContext {
        entity: "shop.orders".parse().unwrap(),
        run: Some(RunId("run-1".to_owned())),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        delivery: "page-7".to_owned(),
        ordinal: 0,
        now: "2026-11-21T01:02:03.456Z".parse().unwrap(),
    }
}

fn decoder(format: &str) -> Decoder {
    Decoder::for_headers(&Headers::default().with(headers::FORMAT, format)).unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// Decodes a line that must be a change.
fn change<'a>(decoder: &Decoder, line: &'a str) -> ChangeView<'a> {
    match decoder.decode(line.as_bytes()) {
        Ok(Line::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    }
}

/// The code of a line that must not decode.
fn refused(decoder: &Decoder, line: &str) -> &'static str {
    match decoder.decode(line.as_bytes()) {
        Err(malformed) => malformed.code,
        other => panic!("{line}: {other:?}"),
    }
}

fn texts<'a>(parts: &'a alluvium_wire::Parts<'_>) -> Vec<&'a str> {
    parts.iter().map(|part| part.get()).collect()
}

fn row<'a>(change: &ChangeView<'a>) -> Option<&'a str> {
    change.row.map(RawValue::get)
}

#[test]
fn an_unknown_version_or_kind_is_an_error_that_says_so() {
    let with = |name, value: &str| {
        let error = Decoder::for_headers(&Headers::default().with(name, value)).unwrap_err();
        assert!(matches!(error.remedy(), alluvium_model::Remedy::Operator(_)));
        error.to_string()
    };
    assert!(with(headers::FORMAT, "envelope/2").contains("`envelope/2`, which this release"));
    assert!(with(headers::KIND, "other").contains("of kind `other`"));
    assert!(with(headers::FORMAT, "map").contains("the header is missing"));
}

#[test]
fn a_message_without_headers_holds_envelopes() {
    let decoder = Decoder::for_headers(&Headers::default()).unwrap();
    assert_eq!(change(&decoder, r#"{"op":"c","after":{"id":1}}"#).op, Op::Create);
}
