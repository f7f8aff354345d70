//! The environment: the process's variables, and those of a `.env` file that it does not have.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::document::read_text;
use crate::error::Finding;

const DOTENV_LIMIT: u64 = 1 << 20;

/// Environment variables. Debug shows their names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Those that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(texts).collect())
    }

    /// No variable but these.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of `name`; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All names and values, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the variables of a `.env` file that are not set yet. No file adds nothing.
    pub(crate) fn add_dotenv(&mut self, path: &Path) -> Result<(), Finding> {
        let name = path.display().to_string();
        let Some(text) = read_text(path, &name, DOTENV_LIMIT)? else { return Ok(()) };
        for pair in dotenvy::from_read_iter(text.as_bytes()) {
            // dotenvy's error quotes the line, and the line may hold a secret.
            let (variable, value) = pair.map_err(|_| {
                Finding::in_file(name.as_str(), "has a line that is no NAME=value")
                    .with_help("quote values with blanks or #: NAME='a value'".to_owned())
            })?;
            self.0.entry(variable).or_insert(value);
        }
        Ok(())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_values() {
        let environment = Environment::from_pairs([("TOKEN", "hunter2")]);
        assert_eq!(format!("{environment:?}"), "{\"TOKEN\"}");
    }

    #[test]
    fn an_empty_variable_counts_as_none() {
        let environment = Environment::from_pairs([("A", ""), ("B", "b")]);
        assert_eq!((environment.get("A"), environment.get("B")), (None, Some("b")));
    }
}
