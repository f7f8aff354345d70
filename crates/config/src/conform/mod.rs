//! Holds a value against a JSON Schema and says in plain words what does not fit.
//!
//! No message holds a value, but for names and kinds: a value may be a secret.

mod alternatives;
mod formats;

use alluvium_model::quantity::{PERIOD_PATTERN, SIZE_PATTERN};
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::error::ConfigError;
use crate::locate::token;
use crate::nearest::{listed, suggestion};
use crate::settings::LISTEN_PATTERN;

pub(crate) use formats::no_json_path;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Where, as a JSON Pointer into the value.
    pub(crate) pointer: String,
    /// Whether the member's name is meant, and not its value.
    pub(crate) at_key: bool,
    /// What is wrong.
    pub(crate) text: String,
    /// What would be right.
    pub(crate) help: Option<String>,
}

/// A schema, ready to hold values against it.
pub(crate) struct Shape<'s> {
    schema: &'s Value,
    validator: Validator,
}

impl<'s> Shape<'s> {
    /// Compiles a schema; it reads neither files nor the network. An error means that the schema
    /// itself is wrong.
    pub(crate) fn of(schema: &'s Value) -> Result<Self, ConfigError> {
        let validator = formats::checked(jsonschema::options()).build(schema).map_err(|error| {
            ConfigError::Defect(format!("a JSON Schema is wrong: {}", error.masked()))
        })?;
        Ok(Self { schema, validator })
    }

    /// The members that a value must have.
    pub(crate) fn required(&self) -> impl Iterator<Item = &'s str> {
        let required = self.schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// All of `value` that does not fit, by place.
    pub(crate) fn problems(&self, value: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(value) {
            Describe { schema: self.schema, problems: &mut problems }.error(&error);
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

struct Describe<'s, 'p> {
    schema: &'s Value,
    problems: &'p mut Vec<Problem>,
}

impl<'s> Describe<'s, '_> {
    fn error(&mut self, error: &ValidationError<'_>) {
        match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => self.unknown_members(error, unexpected),
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
                self.alternatives(error, context);
            }
            Kind::Required { property } => self.missing(error, property),
            _ => {
                let (text, help) = self.plain(error);
                self.push(error, text, help);
            }
        }
    }

    fn unknown_members(&mut self, error: &ValidationError<'_>, unexpected: &[String]) {
        let known = self.above(error).map(|node| members(self.schema, node)).unwrap_or_default();
        for name in unexpected {
            let names = known.iter().map(|(name, _)| name.as_str());
            self.problems.push(Problem {
                pointer: format!("{}/{}", error.instance_path().as_str(), token(name)),
                at_key: true,
                text: format!("`{name}` is not known here"),
                help: suggestion(name, "known here", names),
            });
        }
    }

    fn missing(&mut self, error: &ValidationError<'_>, property: &Value) {
        let name = property.as_str().unwrap_or_default();
        let known = self.above(error).map(|node| members(self.schema, node)).unwrap_or_default();
        let help = known.iter().find(|(known, _)| known == name).and_then(|(_, node)| about(node));
        self.push(
            error,
            format!("`{name}` is missing"),
            help.map(|help| format!("`{name}`: {help}")),
        );
    }

    /// What a keyword that looks at one value has to say.
    fn plain(&self, error: &ValidationError<'_>) -> (String, Option<String>) {
        let about = self.above(error).and_then(about);
        let word = error.instance().as_str().unwrap_or_default();
        match error.kind() {
            Kind::Type { .. } => {
                let expected = self.expected_types(error);
                (format!("this must be {expected}, not {}", kind_of(error.instance())), about)
            }
            Kind::Enum { options } => {
                let options: Vec<&str> =
                    options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                ("this is not one of the known values".to_owned(), choice(word, &options))
            }
            Kind::Constant { expected_value } => (format!("this must be {expected_value}"), about),
            Kind::Pattern { pattern } => {
                ("this does not have the right form".to_owned(), form(pattern).or(about))
            }
            Kind::Format { format } => formats::told(format, word)
                .unwrap_or_else(|| ("this does not have the right form".to_owned(), about)),
            Kind::Minimum { limit } => {
                ("this is too little".to_owned(), Some(format!("at least {limit}")))
            }
            Kind::Maximum { limit } => {
                ("this is too much".to_owned(), Some(format!("at most {limit}")))
            }
            Kind::MinItems { limit } => {
                ("there are too few".to_owned(), Some(format!("at least {limit}")))
            }
            Kind::MinLength { limit } => {
                ("this is too short".to_owned(), Some(format!("at least {limit} characters")))
            }
            _ => (error.masked_with("this").to_string(), about),
        }
    }

    fn expected_types(&self, error: &ValidationError<'_>) -> String {
        match self.schema.pointer(error.schema_path().as_str()) {
            Some(Value::String(kind)) => named(kind),
            Some(Value::Array(kinds)) => {
                let kinds: Vec<String> = kinds
                    .iter()
                    .filter_map(Value::as_str)
                    .filter(|kind| *kind != "null")
                    .map(named)
                    .collect();
                kinds.join(" or ")
            }
            _ => "something else".to_owned(),
        }
    }

    /// The schema that holds the keyword which failed.
    fn above(&self, error: &ValidationError<'_>) -> Option<&'s Value> {
        let path = error.schema_path().as_str();
        self.schema.pointer(&path[..path.rfind('/')?])
    }

    fn push(&mut self, error: &ValidationError<'_>, text: String, help: Option<String>) {
        let pointer = error.instance_path().as_str().to_owned();
        self.problems.push(Problem { pointer, at_key: false, text, help });
    }
}

/// The members that an object of this schema may have, and their schemas.
fn members<'s>(root: &'s Value, schema: &'s Value) -> Vec<(String, &'s Value)> {
    let schema = resolve(root, schema);
    let own = schema.get("properties").and_then(Value::as_object);
    let mut all: Vec<(String, &Value)> =
        own.into_iter().flatten().map(|(name, node)| (name.clone(), node)).collect();
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            let inner = resolve(root, part).get("properties").and_then(Value::as_object);
            for (name, node) in inner.into_iter().flatten() {
                if !all.iter().any(|(known, _)| known == name) {
                    all.push((name.clone(), node));
                }
            }
        }
    }
    all.retain(|(name, _)| name != "$schema");
    all
}

/// Follows a reference within the schema, once.
pub(crate) fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// The first sentence about a value.
fn about(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    Some(text[..end].trim_end_matches('.').to_owned())
}

/// What a pattern asks for, in words.
fn form(pattern: &str) -> Option<String> {
    let text = match pattern {
        "^[a-z][a-z0-9_]{0,63}$" => "use 1 to 64 of a-z, 0-9 and _, beginning with a letter",
        SIZE_PATTERN => "write a number of bytes, or 64MB, 64MiB, 10GB",
        PERIOD_PATTERN => "write a number of seconds, or 500ms, 60s, 5m, 12h, 7d",
        LISTEN_PATTERN => "write an IP address and a port, such as 127.0.0.1:7411",
        _ => return None,
    };
    Some(text.to_owned())
}

fn choice(word: &str, options: &[&str]) -> Option<String> {
    if word.is_empty() {
        let list = listed(word, options.iter().copied());
        return (!list.is_empty()).then(|| format!("one of {list}"));
    }
    suggestion(word, "known", options.iter().copied())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn named(kind: &str) -> String {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, schema_for};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    /// The shapes that connectors use.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Connection {
        /// Where it is.
        base_url: String,
        /// How to authenticate.
        auth: Option<Auth>,
        mode: Option<Mode>,
        #[schemars(range(min = 1, max = 10))]
        retries: Option<u8>,
        either: Option<Either>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Auth {
        /// Nothing.
        None,
        /// A token.
        Bearer {
            /// The token.
            token: String,
        },
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Mode {
        /// One.
        Fast,
        /// Two.
        Slow,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Either {
        Text(String),
        Object { carried: String },
    }

    fn said(value: &Value) -> Vec<String> {
        let schema = schema_for!(Connection).to_value();
        let problems = Shape::of(&schema).unwrap().problems(value);
        let said =
            |p: Problem| format!("{}: {} ({})", p.pointer, p.text, p.help.unwrap_or_default());
        problems.into_iter().map(said).collect()
    }

    #[test]
    fn what_fits_is_not_complained_about() {
        let value =
            json!({"base_url": "x", "auth": {"type": "bearer", "token": "t"}, "mode": "fast"});
        assert_eq!(said(&value), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_member_names_the_nearest() {
        let said = said(&json!({"base_url": "x", "retires": 3}));
        assert_eq!(said.len(), 1, "{said:#?}");
        let expected =
            "/retires: `retires` is not known here (did you mean `retries`? known here: ";
        assert!(said[0].starts_with(expected), "{said:#?}");
    }

    #[test]
    fn an_unknown_member_of_a_tagged_shape_is_told_by_that_shape() {
        let value = json!({"base_url": "x", "auth": {"type": "bearer", "tokn": "hunter2"}});
        let said = said(&value);
        assert_eq!(said.len(), 2, "{said:#?}");
        assert_eq!(said[0], "/auth: `token` is missing (`token`: The token)");
        assert!(said[1].starts_with("/auth/tokn: `tokn` is not known here (did you mean `token`?"));
        assert!(!said.concat().contains("hunter2"));
    }

    #[test]
    fn an_unknown_tag_lists_the_known_ones() {
        assert_eq!(
            said(&json!({"base_url": "x", "auth": {"type": "baerer"}})),
            [
                "/auth/type: there is no such `type` (did you mean `bearer`? known: `bearer`, `none`)"
            ]
        );
        assert_eq!(
            said(&json!({"base_url": "x", "auth": {}})),
            ["/auth: `type` is missing (one of `none`, `bearer`)"]
        );
    }

    #[test]
    fn an_unknown_word_lists_the_known_ones() {
        assert_eq!(
            said(&json!({"base_url": "x", "mode": "fsat"})),
            [
                "/mode: this is not one of the known values (did you mean `fast`? known: `fast`, `slow`)"
            ]
        );
    }

    #[test]
    fn a_wrong_kind_names_both_kinds_and_never_the_value() {
        assert_eq!(
            said(&json!({"base_url": 12345})),
            ["/base_url: this must be text, not a number (Where it is)"]
        );
        assert_eq!(
            said(&json!({"base_url": "x", "either": 7})),
            ["/either: this must be text or an object, not a number ()"]
        );
        assert_eq!(
            said(&json!({"base_url": "x", "retries": 11})),
            ["/retries: this is too much (at most 10)"]
        );
        assert_eq!(said(&json!({})), [": `base_url` is missing (`base_url`: Where it is)"]);
    }
}
