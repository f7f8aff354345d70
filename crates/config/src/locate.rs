//! Finds where each value of a JSON text stands, and members that are given twice.

use std::collections::HashMap;
use std::ops::Range;

/// Where a value stands: in bytes of the text.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    /// The member's name with its quotes, if it is a member.
    pub(crate) key: Option<Range<usize>>,
    /// The value.
    pub(crate) value: Range<usize>,
}

/// What a scan yields.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// By JSON Pointer.
    pub(crate) spans: HashMap<String, Spans>,
    /// Members that an object has more than once: pointer and the place of the repetition.
    pub(crate) repeated: Vec<(String, Range<usize>)>,
}

/// Locates every value of `text`, which must be valid JSON: parse it first, which also bounds how
/// deep it is.
pub(crate) fn locate(text: &str) -> Located {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, located: Located::default() };
    scan.value(String::new(), None);
    scan.located
}

/// A reference token of a JSON Pointer for `name`.
pub(crate) fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
    located: Located,
}

impl Scan<'_> {
    fn value(&mut self, pointer: String, key: Option<Range<usize>>) {
        self.blanks();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(&pointer),
            Some(b'[') => self.array(&pointer),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
        let spans = Spans { key, value: start..self.at };
        self.located.spans.insert(pointer, spans);
    }

    fn object(&mut self, pointer: &str) {
        self.at += 1;
        loop {
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'"') => self.member(pointer),
                _ => break,
            }
        }
        self.at += 1;
    }

    fn member(&mut self, pointer: &str) {
        let start = self.at;
        self.string();
        let key = start..self.at;
        let name: String = serde_json::from_slice(&self.bytes[key.clone()]).unwrap_or_default();
        let pointer = format!("{pointer}/{}", token(&name));
        if self.located.spans.contains_key(&pointer) {
            self.located.repeated.push((pointer.clone(), key.clone()));
        }
        self.blanks();
        self.at += 1; // the colon
        self.value(pointer, Some(key));
    }

    fn array(&mut self, pointer: &str) {
        self.at += 1;
        let mut index = 0;
        loop {
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                None | Some(b']') => break,
                Some(_) => {
                    self.value(format!("{pointer}/{index}"), None);
                    index += 1;
                }
            }
        }
        self.at += 1;
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'"' => return,
                _ => {}
            }
        }
    }

    fn scalar(&mut self) {
        while self.peek().is_some_and(|b| !b",]}".contains(&b) && !b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_where_it_stands() {
        let text = r#"{ "a": [ 1, {"b/c": "x \" ]"}, [] ], "æ": null }"#;
        let located = locate(text);
        let at = |pointer: &str| &text[located.spans[pointer].value.clone()];
        assert_eq!(at(""), text);
        assert_eq!(at("/a/0"), "1");
        assert_eq!(at("/a/1/b~1c"), r#""x \" ]""#);
        assert_eq!(at("/a/2"), "[]");
        assert_eq!(at("/æ"), "null");
        assert_eq!(&text[located.spans["/æ"].key.clone().unwrap()], "\"æ\"");
        assert!(located.repeated.is_empty());
    }

    #[test]
    fn a_member_given_twice_is_told() {
        let located = locate(r#"{"a": 1, "b": {"a": 2}, "a": 3}"#);
        assert_eq!(located.repeated, [("/a".to_owned(), 24..27)]);
    }
}
