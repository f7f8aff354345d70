//! What a source answered, read whole and checked before anybody trusts it.

use alluvium_model::SourceError;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LINK};
use serde_json::value::RawValue;
use url::Url;

/// An answer with status 2xx, or 304 to a conditional request.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// Where the answer came from, without its credentials.
    pub url: Url,
    /// The whole body, unpacked.
    pub body: Bytes,
}

impl Answer {
    /// Whether the source says that nothing changed since the last answer.
    pub fn not_modified(&self) -> bool {
        self.status == 304
    }

    /// The body as JSON text. The error says what came instead, never its content.
    pub fn json(&self) -> Result<&RawValue, SourceError> {
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        let bad = |what: &str| {
            let kind = self.header(&CONTENT_TYPE).unwrap_or("no content type");
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(80).collect();
            format!("{what} (HTTP {}, {kind}, {} bytes)", self.status, self.body.len())
        };
        serde_json::from_slice(body).map_err(|e| match e.classify() {
            _ if body.is_empty() => SourceError::BadAnswer(bad("an empty body instead of JSON")),
            serde_json::error::Category::Eof => {
                SourceError::Unavailable(bad("the JSON breaks off before its end"))
            }
            _ if body.trim_ascii_start().starts_with(b"<") => {
                SourceError::BadAnswer(bad("markup instead of JSON"))
            }
            _ => SourceError::BadAnswer(bad(&format!(
                "not JSON, from line {} column {} on",
                e.line(),
                e.column()
            ))),
        })
    }

    /// The `ETag`, to ask again with.
    pub fn etag(&self) -> Option<&str> {
        self.header(&ETAG)
    }

    /// The `Last-Modified` date, to ask again with.
    pub fn last_modified(&self) -> Option<&str> {
        self.header(&LAST_MODIFIED)
    }

    /// The address that the `Link` header gives with `rel="next"`, as it stands there.
    pub fn next_link(&self) -> Option<String> {
        self.headers.get_all(LINK).iter().filter_map(|v| v.to_str().ok()).find_map(next_link)
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The target of the first link with `rel="next"` in a `Link` header (RFC 8288).
pub fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, next) = split_at_comma(after);
        let is_next = parameters.split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let mut kinds = value.trim().trim_matches('"').split_ascii_whitespace();
                name.trim().eq_ignore_ascii_case("rel")
                    && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target.trim().to_owned());
        }
        rest = next;
    }
    None
}

/// Splits at the first comma outside quotes.
fn split_at_comma(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let header = r#"<https://a/?p=1,2>; rel="prev"; title="a, <b>", </x?p=3>; rel="last next""#;
        assert_eq!(next_link(header).as_deref(), Some("/x?p=3"));
        assert_eq!(next_link(r#"<https://a>; rel=next"#).as_deref(), Some("https://a"));
        assert_eq!(next_link(r#"<https://a>; rel="prev""#), None);
        assert_eq!(next_link("<https://a"), None);
    }
}
