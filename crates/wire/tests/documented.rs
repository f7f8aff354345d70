//! The examples of `docs/wire-format.md` are read as the document says.

use alluvium_model::Headers;
use alluvium_wire::{Decoder, Line, Mapping, headers};

const DOCUMENT: &str = include_str!("../../../docs/wire-format.md");

/// The blocks that open with three backquotes and `json`, with what follows that word.
fn blocks() -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```json") {
            let body = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned);
            blocks.push((kind.trim().to_owned(), body.collect()));
        }
    }
    blocks
}

fn headers_for(kind: &str) -> Headers {
    match kind.split_once(' ').unwrap_or((kind, "")) {
        ("control", "") => Headers::default().with(headers::KIND, "control"),
        ("map", mapping) => {
            let mapping: Mapping = mapping.parse().unwrap();
            Headers::default().with(headers::FORMAT, "map").with(headers::MAP, mapping.to_json())
        }
        ("envelope", "") => Headers::default().with(headers::FORMAT, "envelope/1"),
        ("plain", "") => Headers::default().with(headers::FORMAT, "plain"),
        other => panic!("what is a block of {other:?}?"),
    }
}

#[test]
fn every_example_of_the_document_is_read() {
    let blocks = blocks();
    assert!(blocks.len() >= 5);
    for (kind, lines) in blocks {
        let decoder = Decoder::for_headers(&headers_for(&kind)).unwrap();
        for line in lines {
            let read = decoder.decode(line.as_bytes());
            match kind.as_str() {
                "control" => assert!(matches!(read, Ok(Line::Control(_))), "{line}: {read:?}"),
                _ => assert!(
                    matches!(read, Ok(Line::Change(_) | Line::Tombstone)),
                    "{line}: {read:?}"
                ),
            }
        }
    }
}

#[test]
fn every_header_is_documented() {
    for name in [
        headers::CONTENT_TYPE,
        headers::KIND,
        headers::FORMAT,
        headers::MAP,
        headers::RUN,
        headers::DELIVERY,
        headers::ORDINAL,
        headers::REPLAY_OF,
        headers::TRACEPARENT,
        headers::CE_SPECVERSION,
        headers::CE_ID,
        headers::CE_SOURCE,
        headers::CE_TYPE,
        headers::CE_TIME,
        headers::CE_SUBJECT,
    ] {
        assert!(DOCUMENT.contains(&format!("| `{name}` |")), "{name}");
    }
}
