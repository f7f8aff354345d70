//! Finding one's way in raw JSON without building trees. Everything is borrowed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::Malformed;
use crate::path::{Path, Segment};
use crate::scan::{Broken, Scanner};

/// The value at `path` in `value`; `None` if there is none. Of members that stand twice, the last
/// counts.
pub fn extract<'a>(value: &'a RawValue, path: &Path) -> Option<&'a RawValue> {
    path.segments().iter().try_fold(value, step)
}

/// Visits the members of a JSON object in their order, those that stand twice twice.
///
/// # Errors
/// `bad_row` if it is no object, `unparsable` if a name does not unescape.
pub fn for_each_member<'a>(
    object: &'a RawValue,
    mut f: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), Malformed> {
    if !is_object(object) {
        return Err(Malformed::new(Malformed::BAD_ROW, "no JSON object"));
    }
    Scanner::new(object.get()).object(|scanner, name| {
        let name = name.text().map_err(|_| {
            let reason = "the name of a member has half a surrogate pair";
            Malformed::new(Malformed::UNPARSABLE, reason)
        })?;
        f(name, scanner.value()?);
        Ok(())
    })
}

/// The text of a JSON string, copied only if it has escapes; `None` for anything else.
pub fn string_value(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

pub(crate) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// `value`, but `None` where it is null.
pub(crate) fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| !is_null(value))
}

fn step<'a>(value: &'a RawValue, segment: &Segment) -> Option<&'a RawValue> {
    let mut scanner = Scanner::new(value.get());
    match scanner.peek() {
        b'{' => member(&mut scanner, &segment.name).ok().flatten(),
        b'[' => element(&mut scanner, segment.index?).ok().flatten(),
        _ => None,
    }
}

fn member<'a>(scanner: &mut Scanner<'a>, wanted: &str) -> Result<Option<&'a RawValue>, Broken> {
    let mut found = None;
    scanner.object(|scanner, name| {
        if name.is(wanted) {
            found = Some(scanner.value()?);
            Ok(())
        } else {
            scanner.pass()
        }
    })?;
    Ok(found)
}

fn element<'a>(scanner: &mut Scanner<'a>, wanted: usize) -> Result<Option<&'a RawValue>, Broken> {
    let (mut found, mut index) = (None, 0);
    scanner.array(|scanner| {
        index += 1;
        if index == wanted + 1 {
            found = Some(scanner.value()?);
            Ok(())
        } else {
            scanner.pass()
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn at(text: &str, path: &str) -> Option<String> {
        extract(raw(text), &path.parse().unwrap()).map(|found| found.get().to_owned())
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        let text = r#"{"a": {"b.c": [10, {"d": "x"}], "e\u0041": null}, "0": true}"#;
        assert_eq!(at(text, "/a/b.c/1/d").as_deref(), Some("\"x\""));
        assert_eq!(at(text, "$.a['b.c'][0]").as_deref(), Some("10"));
        assert_eq!(at(text, "a.eA").as_deref(), Some("null"));
        assert_eq!(at(text, "0").as_deref(), Some("true"));
        assert_eq!(at(text, "a.b"), None);
        assert_eq!(at(text, "/a/b.c/2"), None);
        assert_eq!(at(text, "/a/b.c/x"), None);
        assert_eq!(at("5", "a"), None);
        assert_eq!(at("5", "$").as_deref(), Some("5"));
    }

    #[test]
    fn of_members_that_stand_twice_the_last_counts() {
        assert_eq!(at(r#"{"a":1,"b":0,"a":2}"#, "a").as_deref(), Some("2"));
    }

    #[test]
    fn members_are_visited_in_order_and_borrowed() {
        let mut seen = Vec::new();
        for_each_member(raw(r#"{"a": 1.50, "\u00e5":[1, 2]}"#), |name, value| {
            seen.push((matches!(name, Cow::Borrowed(_)), name.into_owned(), value.get()));
        })
        .unwrap();
        let expected = [(true, "a".to_owned(), "1.50"), (false, "å".to_owned(), "[1, 2]")];
        assert_eq!(seen, expected);
        assert_eq!(for_each_member(raw("[1]"), |_, _| ()).unwrap_err().code, "bad_row");
        assert_eq!(
            for_each_member(raw(r#"{"\ud800":1}"#), |_, _| ()).unwrap_err().code,
            "unparsable"
        );
    }

    #[test]
    fn strings_are_copied_only_when_they_have_escapes() {
        assert!(matches!(string_value(raw("\"ab\"")), Some(Cow::Borrowed("ab"))));
        assert_eq!(string_value(raw(r#""a\n\u00e5""#)).as_deref(), Some("a\nå"));
        assert_eq!(string_value(raw("\"\"")).as_deref(), Some(""));
        assert_eq!(string_value(raw(r#""\ud800""#)), None);
        assert_eq!(string_value(raw("12")), None);
    }
}
