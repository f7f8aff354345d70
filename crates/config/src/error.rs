//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::sync::Arc;

use alluvium_model::Remedy;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// So many findings are shown; nobody reads more at once.
const MOST: usize = 200;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The user's files, environment or flags are wrong: all that was found.
    #[error("{0}")]
    Invalid(Findings),
    /// What this program carries itself (a connector's schema, the defaults) is wrong.
    #[error("{0}")]
    Defect(String),
}

impl ConfigError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            ConfigError::Invalid(_) => {
                Remedy::Operator("correct the configuration and start again")
            }
            ConfigError::Defect(_) => Remedy::Bug,
        }
    }

    /// Everything that was found, in the order of files and lines. Empty for a defect.
    pub fn findings(&self) -> &[Finding] {
        match self {
            ConfigError::Invalid(findings) => &findings.0,
            ConfigError::Defect(_) => &[],
        }
    }

    /// One finding as an error.
    pub(crate) fn of(finding: Finding) -> Self {
        ConfigError::Invalid(Findings(vec![finding]))
    }
}

impl Diagnostic for ConfigError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self {
            ConfigError::Invalid(findings) => {
                Some(Box::new(findings.0.iter().map(|finding| finding as &dyn Diagnostic)))
            }
            ConfigError::Defect(_) => None,
        }
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self {
            ConfigError::Invalid(_) => None,
            ConfigError::Defect(_) => Some(Box::new("this is a defect of alluvium")),
        }
    }
}

/// All findings of one run.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Takes over what an error found. A defect stays an error.
    pub(crate) fn take(&mut self, error: ConfigError) -> Result<(), ConfigError> {
        match error {
            ConfigError::Invalid(findings) => self.0.extend(findings.0),
            defect @ ConfigError::Defect(_) => return Err(defect),
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `Ok` if nothing was found.
    pub(crate) fn into_result(mut self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let more = self.0.len().saturating_sub(MOST);
        self.0.truncate(MOST);
        if more > 0 {
            self.0.push(Finding::at_name("configuration", format!("{more} more problems")));
        }
        Err(ConfigError::Invalid(self))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("nothing is wrong"),
            [one] => write!(f, "the configuration is not valid: {}", one.located()),
            [first, ..] => write!(
                f,
                "the configuration has {} problems, the first: {}",
                self.0.len(),
                first.located()
            ),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Finding {
    place: Place,
    problem: String,
    help: Option<String>,
}

/// Where a finding stands.
#[derive(Debug)]
enum Place {
    /// A place in a file. `shown` is its text with secrets masked; without it no excerpt is shown.
    File { name: String, at: Option<At>, shown: Option<Box<NamedSource<Arc<str>>>> },
    /// An environment variable, a flag, or the like.
    Named(String),
}

#[derive(Debug, Clone, Copy)]
struct At {
    line: usize,
    column: usize,
    offset: usize,
    length: usize,
}

impl Finding {
    /// A finding in the text of a file; `span` in bytes. `shown` is what may be shown of the text.
    pub(crate) fn in_text(
        name: &str,
        text: &str,
        shown: Option<Arc<str>>,
        span: std::ops::Range<usize>,
        problem: impl Into<String>,
    ) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let at = At {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            offset: start,
            length: end - start,
        };
        let shown = shown.map(|shown| Box::new(NamedSource::new(name, shown)));
        let place = Place::File { name: name.to_owned(), at: Some(at), shown };
        Self { place, problem: problem.into(), help: None }
    }

    /// A finding about a file as a whole.
    pub(crate) fn in_file(name: impl Into<String>, problem: impl Into<String>) -> Self {
        let place = Place::File { name: name.into(), at: None, shown: None };
        Self { place, problem: problem.into(), help: None }
    }

    /// A finding at something that has a name and no text.
    pub(crate) fn at_name(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: Place::Named(name.into()), problem: problem.into(), help: None }
    }

    /// The same, with what would be right.
    pub(crate) fn with_help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// The file, environment variable or flag it is about.
    pub fn place(&self) -> &str {
        match &self.place {
            Place::File { name, .. } | Place::Named(name) => name,
        }
    }

    /// The line, from 1, if it stands in a file.
    pub fn line(&self) -> Option<usize> {
        self.at().map(|at| at.line)
    }

    /// The column in characters, from 1, if it stands in a file.
    pub fn column(&self) -> Option<usize> {
        self.at().map(|at| at.column)
    }

    /// What is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What would be right.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The finding in one line, as compilers write it: `systems.json:3:14: …`.
    pub fn located(&self) -> String {
        let place = self.place();
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match self.at() {
            Some(at) => format!("{place}:{}:{}: {}{help}", at.line, at.column, self.problem),
            None => format!("{place}: {}{help}", self.problem),
        }
    }

    fn at(&self) -> Option<At> {
        match &self.place {
            Place::File { at, .. } => *at,
            Place::Named(_) => None,
        }
    }

    fn order(&self) -> (bool, &str, usize) {
        let named = matches!(self.place, Place::Named(_));
        (named, self.place(), self.at().map_or(0, |at| at.offset))
    }
}

impl Diagnostic for Finding {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let place = match &self.place {
            Place::File { shown: Some(_), .. } => None,
            _ => Some(self.place_text()),
        };
        match (place, &self.help) {
            (Some(place), Some(help)) => Some(Box::new(format!("in {place}: {help}"))),
            (Some(place), None) => Some(Box::new(format!("in {place}"))),
            (None, Some(help)) => Some(Box::new(help)),
            (None, None) => None,
        }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match &self.place {
            Place::File { shown: Some(shown), .. } => Some(shown.as_ref()),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let at = self.at().filter(|_| self.source_code().is_some())?;
        let span = SourceSpan::new(at.offset.into(), at.length);
        let label = LabeledSpan::new_primary_with_span(Some("here".to_owned()), span);
        Some(Box::new(std::iter::once(label)))
    }
}

impl Finding {
    fn place_text(&self) -> String {
        match self.at() {
            Some(at) => format!("{}:{}:{}", self.place(), at.line, at.column),
            None => self.place().to_owned(),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 5)?;
        fields.serialize_field("place", self.place())?;
        fields.serialize_field("line", &self.line())?;
        fields.serialize_field("column", &self.column())?;
        fields.serialize_field("problem", &self.problem)?;
        fields.serialize_field("help", &self.help)?;
        fields.end()
    }
}

/// The last character boundary at or before `offset`.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
