//! A path to one place in a JSON document: `after.id`, `/after/id` or `$.after['id']`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::PathError;

/// A path to one place in a JSON document.
///
/// Three ways to write it: with dots (`after.id`), as a JSON Pointer (`/after/id`, RFC 6901), and
/// as a JSONPath that names one place (`$.after['id'][0]`, RFC 9535). A number also stands for an
/// element of an array, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    text: String,
    segments: Vec<Segment>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    /// The member of an object.
    pub(crate) name: String,
    /// The element of an array, where the name is a number.
    pub(crate) index: Option<usize>,
}

impl Path {
    /// The path to the member called `name`, whatever characters it has.
    pub fn member(name: &str) -> Self {
        let text = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        Self { text, segments: vec![Segment::new(name)] }
    }

    /// The path to the document itself.
    pub fn whole() -> Self {
        Self { text: "$".to_owned(), segments: Vec::new() }
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl Segment {
    fn new(name: &str) -> Self {
        let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        Self { name: name.to_owned(), index: if digits { name.parse().ok() } else { None } }
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let segments = if text.starts_with('/') {
            pointer(text)
        } else if let Some(rest) = text.strip_prefix('$') {
            json_path(rest)
        } else {
            dotted(text)
        };
        match segments {
            Ok(segments) => Ok(Self { text: text.to_owned(), segments }),
            Err(reason) => Err(PathError { text: text.to_owned(), reason }),
        }
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn dotted(text: &str) -> Result<Vec<Segment>, &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    text.split('.')
        .map(|name| if name.is_empty() { Err("a name is empty") } else { Ok(Segment::new(name)) })
        .collect()
}

fn pointer(text: &str) -> Result<Vec<Segment>, &'static str> {
    text.split('/')
        .skip(1)
        .map(|token| {
            let plain = token.replace("~1", "").replace("~0", "");
            if plain.contains('~') {
                return Err("in a JSON Pointer, `~` is written `~0` and `/` is written `~1`");
            }
            Ok(Segment::new(&token.replace("~1", "/").replace("~0", "~")))
        })
        .collect()
}

fn json_path(mut rest: &str) -> Result<Vec<Segment>, &'static str> {
    const ONE_PLACE: &str = "only `.name`, `['name']` and `[0]` lead to one place";
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let (name, after) = if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            tail.split_at(end)
        } else if let Some(tail) = rest.strip_prefix("['") {
            tail.split_once("']").ok_or(ONE_PLACE)?
        } else if let Some(tail) = rest.strip_prefix("[\"") {
            tail.split_once("\"]").ok_or(ONE_PLACE)?
        } else {
            let tail = rest.strip_prefix('[').ok_or(ONE_PLACE)?;
            let (index, after) = tail.split_once(']').ok_or(ONE_PLACE)?;
            let digits = index.bytes().all(|byte| byte.is_ascii_digit());
            if !digits {
                return Err(ONE_PLACE);
            }
            (index, after)
        };
        if name.is_empty() || name == "*" || name.contains('\\') {
            return Err(ONE_PLACE);
        }
        segments.push(Segment::new(name));
        rest = after;
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let path: Path = text.parse().unwrap();
        path.segments.into_iter().map(|segment| segment.name).collect()
    }

    #[test]
    fn the_three_ways_to_write_a_path_mean_the_same() {
        for text in ["after.id", "/after/id", "$.after.id", "$['after'][\"id\"]"] {
            assert_eq!(names(text), ["after", "id"], "{text}");
        }
        assert_eq!(names("$.a[0].b"), ["a", "0", "b"]);
        assert_eq!(names("/a~1b/c~0d"), ["a/b", "c~d"]);
        assert_eq!(names("$"), Vec::<String>::new());
        assert_eq!(names(Path::member("a/b~.c").as_str()), ["a/b~.c"]);
    }

    #[test]
    fn what_leads_to_no_place_or_to_many_is_refused_with_an_example() {
        for text in ["", " ", "a..b", ".a", "$.", "$[*]", "$..a", "$.*", "$[1:2]", "$x", "/a~2"] {
            let error = text.parse::<Path>().unwrap_err().to_string();
            assert!(error.contains("write `after.id`"), "{text}: {error}");
        }
    }
}
