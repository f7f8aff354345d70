//! None of several shapes fits: finds the one that was meant and speaks of that one.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::{Describe, Problem, about, choice, kind_of, resolve};

impl<'s> Describe<'s, '_> {
    /// None of several shapes fits: what is said is about the one that was meant.
    pub(super) fn alternatives(
        &mut self,
        error: &ValidationError<'_>,
        branches: &[Vec<ValidationError<'_>>],
    ) {
        let base = error.instance_path().as_str();
        if let Some(word) = error.instance().as_str() {
            let names: Vec<&str> =
                branches.iter().flatten().flat_map(|e| names_at(e, base)).collect();
            if !names.is_empty() {
                let text = "this is not one of the known values".to_owned();
                return self.push(error, text, choice(word, &names));
            }
        }
        let mut fitting: Vec<&Vec<ValidationError<'_>>> =
            branches.iter().filter(|errors| !errors.iter().any(|e| is_type_at(e, base))).collect();
        if fitting.is_empty() {
            return self.no_type_fits(error, branches);
        }
        if let Some(member) = tag(base, &fitting) {
            let tagged = |errors: &&Vec<ValidationError<'_>>| {
                !errors.iter().any(|e| is_tag_error(e, base, &member))
            };
            let meant: Vec<_> = fitting.iter().copied().filter(|e| tagged(e)).collect();
            if meant.is_empty() {
                return self.unknown_tag(error, &member, &fitting);
            }
            fitting = meant;
        }
        let Some(meant) = fitting.into_iter().min_by_key(|errors| errors.len()) else { return };
        for inner in meant {
            self.error(inner);
        }
    }

    fn no_type_fits(&mut self, error: &ValidationError<'_>, branches: &[Vec<ValidationError<'_>>]) {
        let base = error.instance_path().as_str();
        let of_types = branches.iter().flatten().filter(|e| is_type_at(e, base));
        let mut expected: Vec<String> = of_types.map(|e| self.expected_types(e)).collect();
        expected.retain(|kind| kind != "null");
        expected.dedup();
        let text =
            format!("this must be {}, not {}", expected.join(" or "), kind_of(error.instance()));
        let help = self.above(error).and_then(about);
        self.push(error, text, help);
    }

    fn unknown_tag(
        &mut self,
        error: &ValidationError<'_>,
        member: &str,
        branches: &[&Vec<ValidationError<'_>>],
    ) {
        let at = format!("{}/{member}", error.instance_path().as_str());
        let errors = branches.iter().flat_map(|errors| errors.iter());
        let mut names: Vec<&str> = errors.flat_map(|e| names_at(e, &at)).collect();
        names.dedup();
        let given = error.instance().get(member);
        let (pointer, text) = match given {
            Some(_) => (at.clone(), format!("there is no such `{member}`")),
            None => {
                names = self.tags(error, member);
                (error.instance_path().as_str().to_owned(), format!("`{member}` is missing"))
            }
        };
        let help = choice(given.and_then(Value::as_str).unwrap_or_default(), &names);
        self.problems.push(Problem { pointer, at_key: false, text, help });
    }

    /// The names that a tag may have, from the schema.
    fn tags(&self, error: &ValidationError<'_>, member: &str) -> Vec<&'s str> {
        let node = self.schema.pointer(error.schema_path().as_str());
        let branches = node.and_then(Value::as_array).into_iter().flatten();
        let pointer = format!("/properties/{member}/const");
        branches
            .filter_map(|branch| resolve(self.schema, branch).pointer(&pointer)?.as_str())
            .collect()
    }
}

/// The constants that an error at `pointer` asks for.
fn names_at<'e>(error: &'e ValidationError<'_>, pointer: &str) -> Vec<&'e str> {
    if error.instance_path().as_str() != pointer {
        return Vec::new();
    }
    match error.kind() {
        Kind::Constant { expected_value } => expected_value.as_str().into_iter().collect(),
        Kind::Enum { options } => {
            options.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        }
        _ => Vec::new(),
    }
}

fn is_type_at(error: &ValidationError<'_>, pointer: &str) -> bool {
    matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == pointer
}

/// The member by which the shapes tell themselves apart, if they do.
fn tag(base: &str, branches: &[&Vec<ValidationError<'_>>]) -> Option<String> {
    let errors = branches.iter().flat_map(|errors| errors.iter());
    let constants = errors.clone().filter_map(|e| {
        let member = e.instance_path().as_str().strip_prefix(base)?.strip_prefix('/')?;
        let is_constant = matches!(e.kind(), Kind::Constant { .. });
        (is_constant && !member.contains('/')).then(|| member.to_owned())
    });
    let missing = errors.filter_map(|e| match e.kind() {
        Kind::Required { property } if e.instance_path().as_str() == base => {
            property.as_str().filter(|name| *name == "type").map(str::to_owned)
        }
        _ => None,
    });
    constants.chain(missing).next()
}

fn is_tag_error(error: &ValidationError<'_>, base: &str, member: &str) -> bool {
    let path = error.instance_path().as_str();
    match error.kind() {
        Kind::Required { property } => path == base && property.as_str() == Some(member),
        _ => path.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) == Some(member),
    }
}
