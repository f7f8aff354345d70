//! The records of one message: one JSON value, the elements of an array, or one a line.

use std::str::from_utf8;

use alluvium_model::Headers;
use alluvium_wire::headers::CONTENT_TYPE;
use serde_json::value::RawValue;

/// The records in the bytes of a message, as far as they can be told apart; what cannot is one.
pub(crate) fn pieces<'a>(value: &'a [u8], headers: &Headers) -> Vec<&'a [u8]> {
    if headers.get(CONTENT_TYPE).is_some_and(is_lines) {
        return lines(value);
    }
    let Ok(text) = from_utf8(value) else { return vec![value] };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return elements(text).unwrap_or_else(|| vec![text.as_bytes()]);
    }
    let lines = lines(value);
    let first = lines.first().is_some_and(|line| is_json(line));
    if lines.len() > 1 && first { lines } else { vec![value] }
}

fn is_lines(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/x-ndjson" | "application/ndjson" | "application/jsonl")
}

fn is_json(line: &[u8]) -> bool {
    from_utf8(line).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok())
}

fn lines(value: &[u8]) -> Vec<&[u8]> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).collect()
}

/// The elements of a JSON array of objects; an array of anything else is left as it is.
fn elements(text: &str) -> Option<Vec<&[u8]>> {
    if !text.trim_ascii_start().starts_with('[') {
        return None;
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let objects = elements.iter().all(|element| element.get().starts_with('{'));
    (objects && !elements.is_empty())
        .then(|| elements.into_iter().map(|element| element.get().as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(value: &[u8]) -> Vec<&[u8]> {
        pieces(value, &Headers::default())
    }

    #[test]
    fn a_message_is_one_value_or_an_array_of_rows_or_lines() {
        assert_eq!(split(b"{\n \"a\": 1\n}"), [&b"{\n \"a\": 1\n}"[..]], "however it is printed");
        assert_eq!(split(b"[{\"a\":1}, {\"a\":2}]"), [b"{\"a\":1}", b"{\"a\":2}"]);
        assert_eq!(split(b"{\"a\":1}\r\n\n{\"a\":2}\n"), [b"{\"a\":1}", b"{\"a\":2}"]);
        assert_eq!(
            split(b"{\"a\":1}\nbroken"),
            [&b"{\"a\":1}"[..], b"broken"],
            "a bad line is one"
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_one_record_with_all_its_bytes() {
        for value in [&b"{broken\n{\"a\":1}"[..], b"\xff\n{}", b"[1,2]", b"[]", b"5", b"null", b""]
        {
            assert_eq!(split(value), [value], "{value:?}");
        }
    }

    #[test]
    fn a_header_may_say_that_it_is_lines() {
        let headers = Headers::default().with(CONTENT_TYPE, "application/x-ndjson; charset=utf-8");
        assert_eq!(pieces(b"broken\n{}", &headers), [&b"broken"[..], b"{}"]);
    }
}
