//! Resolves references to secrets, late: just before a connector connects.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use alluvium_model::Secret;
use serde_json::Value;

use crate::conform::Problem;
use crate::environment::Environment;
use crate::error::{ConfigError, Finding, Findings};
use crate::locate::token;

/// No secret is longer, in bytes.
const LIMIT: u64 = 64 * 1024;
const NO_REFERENCE: &str = "this is no reference to a secret";
const FORMS: &str = "write ${env:NAME} or ${file:/path}; $${ stands for ${ itself";

/// Resolves `${env:NAME}` and `${file:/path}`.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    environment: Environment,
    folder: PathBuf,
}

impl Secrets {
    /// Secrets of this environment; relative paths start at `folder`.
    pub fn new(environment: Environment, folder: &Path) -> Self {
        Self { environment, folder: folder.to_owned() }
    }

    /// The value with every reference in its texts replaced. Ask just before connecting, and
    /// let go of the result after: it holds secrets in the clear.
    ///
    /// A reference may be a whole text or a part of one. `${env:NAME}` falls back to the file that
    /// `NAME_FILE` names; one newline at a file's end is left out. All references that cannot be
    /// resolved are in the error, by name, and never a value.
    pub fn resolve(&self, value: &Value) -> Result<Value, ConfigError> {
        let mut findings = Findings::default();
        let mut resolved = value.clone();
        self.replace(&mut resolved, &mut findings);
        findings.into_result()?;
        Ok(resolved)
    }

    /// One secret with its references replaced; see [`resolve`](Self::resolve).
    pub fn secret(&self, secret: &Secret) -> Result<Secret, ConfigError> {
        match self.resolve(&secret.expose().into())? {
            Value::String(text) => Ok(Secret::new(text)),
            _ => Err(ConfigError::Defect("a secret is no text".to_owned())),
        }
    }

    /// The references of `value`, which stands at `pointer`, that cannot be resolved, and why. Those
    /// that are not well formed are left out.
    pub(crate) fn missing(&self, value: &Value, pointer: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        each_text(value, pointer, &mut |at, text| {
            for part in parts(text).unwrap_or_default() {
                let Err(missing) = self.part(&part) else { continue };
                problems.push(Problem {
                    pointer: at.to_owned(),
                    at_key: false,
                    text: format!("{}: {}", missing.place(), missing.problem()),
                    help: missing.help_text().map(str::to_owned),
                });
            }
        });
        problems
    }

    fn replace(&self, value: &mut Value, findings: &mut Findings) {
        match value {
            Value::String(text) => {
                if let Some(replaced) = self.text(text, findings) {
                    *text = replaced;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace(item, findings)),
            Value::Object(members) => {
                members.values_mut().for_each(|member| self.replace(member, findings));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The text with its references replaced; `None` if it stays as it is.
    fn text(&self, text: &str, findings: &mut Findings) -> Option<String> {
        if !text.contains("${") {
            return None;
        }
        let parts = match parts(text) {
            Ok(parts) => parts,
            Err(BadReference(reference)) => {
                let finding = Finding::at_name(reference, NO_REFERENCE);
                findings.push(finding.with_help(FORMS.to_owned()));
                return None;
            }
        };
        let mut replaced = String::with_capacity(text.len());
        for part in &parts {
            match self.part(part) {
                Ok(text) => replaced.push_str(&text),
                Err(finding) => findings.push(finding),
            }
        }
        Some(replaced)
    }

    fn part<'t>(&self, part: &Part<'t>) -> Result<Cow<'t, str>, Finding> {
        match part {
            Part::Text(text) => Ok(Cow::Borrowed(text)),
            Part::Variable(name) => self.variable(name).map(Cow::Owned),
            Part::File(path) => self.file(path, &format!("${{file:{path}}}")).map(Cow::Owned),
        }
    }

    fn variable(&self, name: &str) -> Result<String, Finding> {
        if let Some(value) = self.environment.get(name) {
            return Ok(value.to_owned());
        }
        let beside = format!("{name}_FILE");
        match self.environment.get(&beside) {
            Some(path) => self.file(path, &format!("${{env:{name}}}, by {beside}")),
            None => Err(Finding::at_name(
                format!("${{env:{name}}}"),
                format!("the environment has neither {name} nor {beside}"),
            )
            .with_help(format!("set {name}, or {beside} to the path of a file that holds it"))),
        }
    }

    fn file(&self, path: &str, reference: &str) -> Result<String, Finding> {
        let wrong = |problem: String| Finding::at_name(reference, problem);
        let file = File::open(self.folder.join(path))
            .map_err(|error| wrong(format!("the file cannot be opened: {error}")))?;
        let mut text = String::new();
        file.take(LIMIT + 1)
            .read_to_string(&mut text)
            .map_err(|error| wrong(format!("the file cannot be read as text: {}", error.kind())))?;
        if text.len() as u64 > LIMIT {
            return Err(wrong(format!("the file is larger than {LIMIT} bytes")));
        }
        let end = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        Ok(end.unwrap_or(&text).to_owned())
    }
}

/// Replaces the references of `value`; see [`Secrets::resolve`].
pub fn resolve(
    value: &Value,
    environment: &Environment,
    folder: &Path,
) -> Result<Value, ConfigError> {
    Secrets::new(environment.clone(), folder).resolve(value)
}

/// Whether a text is nothing but one well-formed reference.
pub(crate) fn is_reference(text: &str) -> bool {
    matches!(parts(text).as_deref(), Ok([Part::Variable(_) | Part::File(_)]))
}

/// Whether a text refers to nothing. One that tries to is told by [`malformed`].
pub(crate) fn is_plain(text: &str) -> bool {
    parts(text).is_ok_and(|parts| parts.iter().all(|part| matches!(part, Part::Text(_))))
}

/// The references of `value`, which stands at `pointer`, that are not well formed.
pub(crate) fn malformed(value: &Value, pointer: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    each_text(value, pointer, &mut |at, text| {
        if parts(text).is_err() {
            let (pointer, help) = (at.to_owned(), Some(FORMS.to_owned()));
            problems.push(Problem { pointer, at_key: false, text: NO_REFERENCE.to_owned(), help });
        }
    });
    problems
}

/// All texts of `value`, which stands at `pointer`, with their pointers.
pub(crate) fn each_text(value: &Value, pointer: &str, look: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => look(pointer, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                each_text(item, &format!("{pointer}/{index}"), look);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                each_text(member, &format!("{pointer}/{}", token(name)), look);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Variable(&'t str),
    File(&'t str),
}

/// A reference that is none; what it said, without anything that might be a secret.
#[derive(Debug)]
struct BadReference(&'static str);

fn parts(text: &str) -> Result<Vec<Part<'_>>, BadReference> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            parts.extend([Part::Text(before), Part::Text("${")]);
            rest = &reference[2..];
            continue;
        }
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let end = reference.find('}').ok_or(BadReference("${… without }"))?;
        parts.push(reference_part(&reference[2..end])?);
        rest = &reference[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

fn reference_part(inner: &str) -> Result<Part<'_>, BadReference> {
    match inner.split_once(':') {
        Some(("env", name)) if is_variable(name) => Ok(Part::Variable(name)),
        Some(("env", _)) => Err(BadReference("${env:…}")),
        Some(("file", path)) if !path.is_empty() => Ok(Part::File(path)),
        Some(("file", _)) => Err(BadReference("${file:}")),
        _ => Err(BadReference("${…}")),
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Secrets {
        Secrets::new(Environment::from_pairs(pairs.iter().copied()), Path::new("/nowhere"))
    }

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        let secrets = with(&[("A", "one"), ("B", "two")]);
        let value =
            json!({"token": "${env:A}", "list": ["x ${env:A}-${env:B} y", 7], "plain": "$5"});
        assert_eq!(
            secrets.resolve(&value).unwrap(),
            json!({"token": "one", "list": ["x one-two y", 7], "plain": "$5"})
        );
    }

    #[test]
    fn an_escaped_reference_stays_text() {
        let value = json!("a $${env:A} ${env:A}");
        assert_eq!(with(&[("A", "one")]).resolve(&value).unwrap(), json!("a ${env:A} one"));
    }

    #[test]
    fn a_value_that_looks_like_a_reference_is_not_resolved_again() {
        let secrets = with(&[("A", "${env:B}"), ("B", "two")]);
        assert_eq!(secrets.resolve(&json!("${env:A}")).unwrap(), json!("${env:B}"));
    }

    #[test]
    fn every_missing_secret_is_named_at_once() {
        let error =
            with(&[]).resolve(&json!(["${env:A}", "${env:B}", "${file:none}"])).unwrap_err();
        let said: Vec<String> = error.findings().iter().map(Finding::located).collect();
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said.iter().any(|s| s.contains("neither A nor A_FILE")), "{said:#?}");
        assert!(said.iter().any(|s| s.starts_with("${file:none}:")), "{said:#?}");
    }

    #[test]
    fn what_is_no_reference_is_refused_without_its_text() {
        for bad in ["${hunter2}", "${env:hunter 2}", "x ${env:A", "${vault:hunter2}", "${file:}"] {
            let error = with(&[("A", "one")]).resolve(&json!(bad)).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("hunter"), "{said}");
            assert!(said.contains("no reference"), "{said}");
        }
    }
}
