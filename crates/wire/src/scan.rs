//! A scanner that checks JSON and tells where its values stand, in one pass and without building
//! anything: what the hot path needs, at several times the speed of a general parser. It accepts
//! what `serde_json` accepts as a `RawValue`; a test holds the two against each other.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::Malformed;
use crate::known::known_value;
use crate::nest::Nest;

/// The text is not JSON.
#[derive(Debug)]
pub(crate) struct Broken;

impl From<Broken> for Malformed {
    fn from(_: Broken) -> Self {
        Malformed::new(Malformed::UNPARSABLE, "not JSON")
    }
}

/// A place in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Where the last value ended, before the space after it.
    value_end: usize,
}

/// The name of a member as it stands in the text, between its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    inner: &'a str,
    quoted: &'a str,
    escaped: bool,
}

impl<'a> Name<'a> {
    /// The name, unescaped. Fails on half a surrogate pair.
    pub(crate) fn text(self) -> Result<Cow<'a, str>, Broken> {
        if self.escaped {
            serde_json::from_str(self.quoted).map(Cow::Owned).map_err(|_| Broken)
        } else {
            Ok(Cow::Borrowed(self.inner))
        }
    }

    pub(crate) fn is(self, name: &str) -> bool {
        if self.escaped { self.text().is_ok_and(|text| text == name) } else { self.inner == name }
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut scanner = Self { text, at: 0, value_end: 0 };
        scanner.space();
        scanner
    }

    /// The first byte of what stands here; 0 at the end.
    #[inline]
    pub(crate) fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Passes over one value, and the space after it.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<&'a RawValue, Broken> {
        let begin = self.at;
        self.skip()?;
        let text = &self.text[begin..self.at];
        self.space();
        known_value(text)
    }

    /// Visits the members of the object that stands here. `f` must pass over the value.
    #[inline]
    pub(crate) fn object<E: From<Broken>>(
        &mut self,
        mut f: impl FnMut(&mut Self, Name<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{')?;
        self.space();
        if self.peek() != b'}' {
            loop {
                let name = self.name()?;
                f(self, name)?;
                if self.peek() != b',' {
                    break;
                }
                self.at += 1;
                self.space();
            }
        }
        self.expect(b'}')?;
        self.end_value();
        Ok(())
    }

    /// Visits the elements of the array that stands here. `f` must pass over the value.
    pub(crate) fn array<E: From<Broken>>(
        &mut self,
        mut f: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'[')?;
        self.space();
        if self.peek() != b']' {
            loop {
                f(self)?;
                if self.peek() != b',' {
                    break;
                }
                self.at += 1;
                self.space();
            }
        }
        self.expect(b']')?;
        self.end_value();
        Ok(())
    }

    /// Passes over one value that is not wanted, and the space after it.
    #[inline]
    pub(crate) fn pass(&mut self) -> Result<(), Broken> {
        self.skip()?;
        self.end_value();
        Ok(())
    }

    /// Passes over one value in the manner of `pass`, and gives it if it is wanted.
    #[inline]
    pub(crate) fn spanned(
        &mut self,
        is_wanted: bool,
        pass: impl FnOnce(&mut Self) -> Result<(), Broken>,
    ) -> Result<Option<&'a RawValue>, Broken> {
        let begin = self.at;
        pass(self)?;
        if !is_wanted {
            return Ok(None);
        }
        known_value(&self.text[begin..self.value_end]).map(Some)
    }

    #[inline]
    fn end_value(&mut self) {
        self.value_end = self.at;
        self.space();
    }

    /// That nothing stands here any more.
    pub(crate) fn end(&self) -> Result<(), Broken> {
        if self.at == self.text.len() { Ok(()) } else { Err(Broken) }
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.peek() != byte {
            return Err(Broken);
        }
        self.at += 1;
        Ok(())
    }

    /// A name, its colon, and the space around it.
    #[inline]
    fn name(&mut self) -> Result<Name<'a>, Broken> {
        let begin = self.at;
        if self.peek() != b'"' {
            return Err(Broken);
        }
        let escaped = self.string()?;
        let quoted = &self.text[begin..self.at];
        let name = Name { inner: &quoted[1..quoted.len() - 1], quoted, escaped };
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    #[inline]
    fn pass_name(&mut self) -> Result<(), Broken> {
        if self.peek() != b'"' {
            return Err(Broken);
        }
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// Passes over one value, however deep, without recursion.
    #[inline]
    fn skip(&mut self) -> Result<(), Broken> {
        match self.peek() {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<(), Broken> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => Err(Broken),
        }
    }

    fn container(&mut self) -> Result<(), Broken> {
        let mut nest = Nest::default();
        loop {
            match self.peek() {
                open @ (b'{' | b'[') => {
                    let is_object = open == b'{';
                    self.at += 1;
                    self.space();
                    if self.peek() == if is_object { b'}' } else { b']' } {
                        self.at += 1;
                    } else {
                        nest.push(is_object);
                        if is_object {
                            self.pass_name()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // A value is over: so may be what it stands in.
            loop {
                let Some(is_object) = nest.top() else { return Ok(()) };
                self.space();
                match (self.peek(), is_object) {
                    (b',', _) => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.pass_name()?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        nest.pop();
                    }
                    _ => return Err(Broken),
                }
            }
        }
    }

    /// Passes over a string and tells whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, Broken> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        let mut escaped = false;
        loop {
            at = plain_end(bytes, at);
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    at += escape_length(&bytes[at..])?;
                }
                _ => return Err(Broken),
            }
        }
    }

    fn number(&mut self) -> Result<(), Broken> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Broken> {
        let begin = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { Err(Broken) }
    }

    fn word(&mut self, word: &str) -> Result<(), Broken> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Broken);
        }
        self.at += word.len();
        Ok(())
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where, from `at`, a quote, a backslash or a control character stands: eight bytes at a time.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()) {
        let eight = u64::from_le_bytes(eight);
        let quote = eight ^ (ONES * b'"' as u64);
        let slash = eight ^ (ONES * b'\\' as u64);
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (eight.wrapping_sub(ONES * 0x20) & !eight);
        let found = found & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\') {
        at += 1;
    }
    at
}

/// How many bytes the escape has that `bytes` begin with.
fn escape_length(bytes: &[u8]) -> Result<usize, Broken> {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') if bytes.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
            Ok(6)
        }
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::known::Known;

    fn accepts(text: &str) -> Option<&str> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value().ok()?;
        scanner.end().ok()?;
        Some(value.get())
    }

    fn serde_accepts(text: &str) -> Option<&str> {
        serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
    }

    #[test]
    fn it_accepts_what_serde_json_accepts() {
        let texts = "~ ~1~ 1 ~01~-~-0~1.~.5~1.5e+7~1e~1E5~1e999~tru~true~truex~nul~null~\"~\"a~\"\\~\
            \"\\u12\"~\"\\u12G4\"~\"\\ud800\"~\"\\x\"~\"\u{1}\"~\"a\nb\"~\"å\u{7f}\"~[]~[ ]~[1,]~[,1]~\
            [1 2]~[1]]~[[]~{}~{ }~{1:2}~{\"a\"}~{\"a\":}~{\"a\":1,}~{\"a\" : 1 , \"b\":[{}]}~[{]}~\
            {\"a\":[}~\u{feff}1~\0~1\0~{\"a\":1}}~\"12345678\\\"\"~\"1234567\\n12345678\"";
        for text in texts.split('~') {
            assert_eq!(accepts(text), serde_accepts(text), "{text:?}");
        }
    }

    #[test]
    fn containers_are_told_apart_at_any_depth() {
        for depth in [1, 63, 64, 65, 128, 200, 1000] {
            let text = "[{\"a\":".repeat(depth) + "1" + &"}]".repeat(depth);
            assert!(accepts(&text).is_some());
            assert!(accepts(&text.replacen("}]", "]}", 1)).is_none());
        }
    }

    #[test]
    fn a_value_is_made_without_being_read_again() {
        assert!(
            <&RawValue>::deserialize(Known("{\"a\": 1}")).is_ok_and(|v| v.get() == "{\"a\": 1}")
        );
    }

    const TOKENS: &str = "{~}~[~]~,~:~\"a\"~\"\\n\"~\"~\\~1~-~0~.~e~true~null~ ~\n~å~\u{1}~\"long enough for eight\"";

    fn soup() -> impl Strategy<Value = String> {
        let tokens: Vec<&str> = TOKENS.split('~').collect();
        proptest::collection::vec(proptest::sample::select(tokens), 0..12).prop_map(|t| t.concat())
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_on_soups_of_tokens(text in soup()) {
            prop_assert_eq!(accepts(&text), serde_accepts(&text));
        }

        #[test]
        fn it_agrees_with_serde_json_on_any_string(inner in "[ -~\\x00-\\x20å\"\\\\u0-9]{0,24}") {
            let text = format!("\"{inner}\"");
            prop_assert_eq!(accepts(&text), serde_accepts(&text));
        }
    }
}
