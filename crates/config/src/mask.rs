//! Which parts of a settings or metadata file an excerpt must not show.
//!
//! A schema marks secrets by `writeOnly`. Shown are references, and texts whose member the schema
//! knows under a name that is never a secret; all other texts are masked, so also the value of a
//! misspelt member.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use crate::address::has_user;
use crate::conform::{Problem, resolve};
use crate::document::Document;
use crate::locate::token;
use crate::secrets::{each_text, is_plain, is_reference};

const REFERENCE: &str =
    "put it in the environment or in a file and write ${env:NAME} or ${file:/path}";
const USER: &str = "leave it out, and say in a member of its own (`auth`) how to authenticate, with ${env:NAME} or \
     ${file:/path}";
/// Words in the names of headers that say who asks: `Authorization`, `X-Api-Key`, `Cookie`.
const CREDENTIALS: [&str; 11] = [
    "authorization",
    "auth",
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "cookie",
    "session",
    "signature",
    "credential",
];

/// How names end that say where a secret is or how long it holds: `ssl.key.location`.
const ABOUT: [&str; 3] = ["location", "url", "ms"];

/// What may stand in the open, by the names of members.
#[derive(Debug, Default)]
pub(crate) struct Openness {
    open: BTreeSet<String>,
    secret: BTreeSet<String>,
}

impl Openness {
    /// Learns the names from a schema.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut openness = Self::default();
        openness.learn(schema, schema);
        openness
    }

    /// Whether the schema says that members of this name are secrets.
    pub(crate) fn is_secret(&self, name: &str) -> bool {
        self.secret.contains(name)
    }

    fn is_open(&self, name: &str) -> bool {
        name == "type" || (self.open.contains(name) && !self.secret.contains(name))
    }

    fn learn(&mut self, root: &Value, schema: &Value) {
        match schema {
            Value::Object(members) => {
                for (name, node) in
                    members.get("properties").and_then(Value::as_object).into_iter().flatten()
                {
                    let items =
                        node.get("additionalProperties").is_some_and(|n| is_write_only(root, n));
                    if items || is_write_only(root, node) {
                        self.secret.insert(name.clone());
                    } else {
                        self.open.insert(name.clone());
                    }
                }
                members.values().for_each(|member| self.learn(root, member));
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(root, item)),
            _ => {}
        }
    }
}

/// The parts of `document` below `pointer` that must not be shown.
pub(crate) fn masked(document: &Document, pointer: &str, openness: &Openness) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    if let Some(value) = document.value.pointer(pointer) {
        hide(document, value, pointer, true, openness, &mut parts);
    }
    parts
}

/// `open`: whether all names on the way here may stand in the open.
fn hide(
    document: &Document,
    value: &Value,
    pointer: &str,
    open: bool,
    openness: &Openness,
    parts: &mut Vec<Range<usize>>,
) {
    match value {
        Value::String(text) => {
            let shown = is_reference(text) || (open && !has_credentials(text));
            if let Some(span) = document.span(pointer).filter(|span| !shown && span.len() > 2) {
                parts.push(span.start + 1..span.end - 1);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                hide(document, item, &format!("{pointer}/{index}"), open, openness, parts);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let (at, open) =
                    (format!("{pointer}/{}", token(name)), open && openness.is_open(name));
                hide(document, member, &at, open, openness, parts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What of `value`, which stands at `pointer`, is a secret in the open where a reference belongs.
pub(crate) fn in_the_open(value: &Value, pointer: &str, openness: &Openness) -> Vec<Problem> {
    let mut found = Vec::new();
    search(value, pointer, false, openness, &mut found);
    found
}

/// What of `value`, which stands at `pointer`, is an address with a user or a password.
pub(crate) fn with_users(value: &Value, pointer: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    each_text(value, pointer, &mut |at, text| {
        if has_user(text) {
            let text = "an address must not hold a user or a password";
            found.push(problem(at.to_owned(), text, USER));
        }
    });
    found
}

/// `secrets`: whether these are the members of an object that may hold secrets under any name, such
/// as the headers of requests.
fn search(
    value: &Value,
    pointer: &str,
    secrets: bool,
    openness: &Openness,
    found: &mut Vec<Problem>,
) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let at = format!("{pointer}/{}", token(name));
                let secret = openness.is_secret(name);
                let given = secret || (secrets && names_a_credential(name));
                match member {
                    Value::String(text) if given && is_plain(text) => {
                        found.push(problem(at, "a secret must not stand in this file", REFERENCE));
                    }
                    _ => search(member, &at, secret, openness, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{pointer}/{index}"), false, openness, found);
            }
        }
        _ => {}
    }
}

/// Whether a header or an option of this name says who asks.
fn names_a_credential(name: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    let last = words.clone().next_back().unwrap_or_default();
    !ABOUT.contains(&last) && words.any(|word| CREDENTIALS.contains(&word))
}

fn problem(pointer: String, text: &str, help: &str) -> Problem {
    Problem { pointer, at_key: false, text: text.to_owned(), help: Some(help.to_owned()) }
}

/// Whether a text looks like a URL with a user or a query in it.
fn has_credentials(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?']))
}

fn is_write_only(root: &Value, schema: &Value) -> bool {
    let schema = resolve(root, schema);
    let own = schema.get("writeOnly").and_then(Value::as_bool).unwrap_or_default();
    let parts = ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
    own || parts.flatten().any(|part| resolve(root, part).get("writeOnly").is_some())
}
