//! Reads the settings: defaults, file, environment and flags, one over the other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Origin, Settings, bounds, known};
use crate::conform::{Problem, Shape};
use crate::document::{Document, read_text};
use crate::environment::Environment;
use crate::error::{ConfigError, Finding, Findings};
use crate::locate::token;
use crate::mask::{Openness, in_the_open, masked};
use crate::nearest::{nearest, suggestion};
use crate::secrets::malformed;

/// The settings that stand where nobody says otherwise, with their comments.
pub const DEFAULT_SETTINGS: &str = include_str!("../../default.toml");

const FILE: &str = "alluvium.toml";
const FILE_LIMIT: u64 = 1 << 20;
const PREFIX: &str = "ALLUVIUM_";
/// Names the settings file or its folder; it is no setting itself.
const WHICH_FILE: &str = "ALLUVIUM_CONFIG";
const IN_A_FLAG: &str = "a secret must not stand in a command line, which others can see";

/// From where settings are read.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The settings file, or the folder of an `alluvium.toml`. A file must exist; in a folder it
    /// may be missing. Default: what `ALLUVIUM_CONFIG` names, else the current folder.
    pub path: Option<PathBuf>,
    /// What flags set: dotted key and value.
    pub overrides: Vec<(String, String)>,
    /// The environment. [`Environment::of_process`], but for tests.
    pub environment: Environment,
}

impl Settings {
    /// Reads and checks the settings. All that is wrong is in the error.
    pub fn load(options: LoadOptions) -> Result<Settings, ConfigError> {
        let mut findings = Findings::default();
        let settings = Self::find(options, &mut findings)?;
        findings.into_result()?;
        Ok(settings)
    }

    /// What can be read of the settings; a default stands for each that is wrong. They count only if
    /// nothing was found.
    pub(crate) fn find(
        options: LoadOptions,
        findings: &mut Findings,
    ) -> Result<Settings, ConfigError> {
        let (folder, file) = locate_file(&options)?;
        let mut environment = options.environment;
        if let Err(finding) = environment.add_dotenv(&folder.join(".env")) {
            findings.push(finding);
        }
        let mut layered = Layered::defaults()?;
        layered.add_file(file.as_deref(), findings);
        layered.add_environment(&environment, findings);
        layered.add_flags(&options.overrides, findings);
        let mut settings = layered.check(findings)?;
        settings.origin = Origin { folder, file, environment };
        Ok(settings)
    }
}

/// The folder where relative paths start, and the settings file if there is one.
fn locate_file(options: &LoadOptions) -> Result<(PathBuf, Option<PathBuf>), ConfigError> {
    let named = options.path.clone();
    let named = named.or_else(|| options.environment.get(WHICH_FILE).map(PathBuf::from));
    let path = named.unwrap_or_else(|| PathBuf::from("."));
    let path = std::path::absolute(&path).map_err(|error| {
        ConfigError::of(Finding::in_file(path.display().to_string(), error.to_string()))
    })?;
    if path.is_dir() {
        let file = path.join(FILE);
        let there = file.is_file();
        return Ok((path, there.then_some(file)));
    }
    if !path.is_file() {
        let finding = Finding::in_file(path.display().to_string(), "there is no such file");
        let help = "`alluvium init` writes one".to_owned();
        return Err(ConfigError::of(finding.with_help(help)));
    }
    Ok((path.parent().unwrap_or(Path::new("/")).to_owned(), Some(path)))
}

/// Who gave a value.
enum Giver {
    File,
    Variable(String),
    Flag(String),
}

impl Giver {
    fn name(&self) -> &str {
        match self {
            Giver::File => FILE,
            Giver::Variable(name) | Giver::Flag(name) => name,
        }
    }
}

/// The value so far, and who gave what. What nobody gave is a default.
struct Layered {
    schema: Value,
    value: Value,
    givers: HashMap<String, Giver>,
    document: Option<Document>,
}

impl Layered {
    fn defaults() -> Result<Self, ConfigError> {
        let (schema, value) = (known::schema(), defaults()?);
        Ok(Self { schema, value, givers: HashMap::new(), document: None })
    }

    fn add_file(&mut self, file: Option<&Path>, findings: &mut Findings) {
        let Some(file) = file else { return };
        let name = file.display().to_string();
        match read_text(file, &name, FILE_LIMIT) {
            Ok(Some(text)) => {
                let Some(mut document) = Document::toml(&name, &text, findings) else { return };
                document.mask(&masked(&document, "", &Openness::of(&self.schema)));
                self.add_table(&document, &document.value, &mut Vec::new(), findings);
                self.document = Some(document);
            }
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
    }

    fn add_table<'v>(
        &mut self,
        document: &Document,
        table: &'v Value,
        keys: &mut Vec<&'v str>,
        findings: &mut Findings,
    ) {
        for (key, value) in table.as_object().into_iter().flatten() {
            keys.push(key);
            match known::at(&self.schema, keys) {
                None => {
                    let finding = document.finding_at_key(&pointer(keys), unknown(keys));
                    findings.push(finding.with_help(self.meant(keys)));
                }
                Some(node) if known::is_table(node) && value.is_object() => {
                    self.add_table(document, value, keys, findings);
                }
                Some(_) => self.set(keys, value.clone(), Giver::File),
            }
            keys.pop();
        }
    }

    fn add_environment(&mut self, environment: &Environment, findings: &mut Findings) {
        for (name, text) in environment.iter() {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| name != WHICH_FILE) else {
                continue;
            };
            let lower = rest.to_lowercase();
            let keys: Vec<&str> = lower.split("__").collect();
            if let Err(finding) = self.add_text(&keys, text, Giver::Variable(name.to_owned())) {
                findings.push(finding);
            }
        }
    }

    fn add_flags(&mut self, overrides: &[(String, String)], findings: &mut Findings) {
        for (key, text) in overrides {
            let keys: Vec<&str> = key.split('.').collect();
            if let Err(finding) = self.add_text(&keys, text, Giver::Flag(format!("flag {key}"))) {
                findings.push(finding);
            }
        }
    }

    /// Sets one setting from text, read as what the setting is.
    fn add_text(&mut self, keys: &[&str], text: &str, giver: Giver) -> Result<(), Finding> {
        let node = known::at(&self.schema, keys).filter(|node| !known::is_table(node));
        let Some(node) = node else {
            let finding = Finding::at_name(giver.name(), unknown(keys));
            return Err(finding.with_help(self.meant(keys)));
        };
        let value = typed(node, text);
        self.set(keys, value, giver);
        Ok(())
    }

    fn set(&mut self, keys: &[&str], value: Value, giver: Giver) {
        let mut node = &mut self.value;
        for key in keys {
            if !node.is_object() {
                *node = Value::Object(serde_json::Map::new());
            }
            node = &mut node[*key];
        }
        *node = value;
        self.givers.insert(pointer(keys), giver);
    }

    /// What somebody meant who wrote these keys.
    fn meant(&self, keys: &[&str]) -> Option<String> {
        let dotted = keys.join(".");
        let known = known::dotted(&self.schema);
        let (last, above) = keys.split_last()?;
        if let Some(node) = known::at(&self.schema, above)
            && let Some(members) = node.get("properties").and_then(Value::as_object)
            && nearest(last, members.keys().map(String::as_str)).is_some()
        {
            let what = if above.is_empty() { "settings here" } else { "known here" };
            return suggestion(last, what, members.keys().map(String::as_str));
        }
        nearest(&dotted, known.iter().map(String::as_str))
            .map(|meant| format!("did you mean `{meant}`?"))
            .or_else(|| Some("`default.toml` in the documentation lists all settings".to_owned()))
    }

    /// Checks the value and reads it into types, without what is wrong.
    fn check(mut self, findings: &mut Findings) -> Result<Settings, ConfigError> {
        let before = findings.len();
        for problem in Shape::of(&self.schema)?.problems(&self.value) {
            findings.push(self.finding(&problem));
            self.forget(&problem.pointer)?;
        }
        for problem in self.wrong_secrets() {
            findings.push(self.finding(&problem));
        }
        for (key, problem, help) in bounds::check_values(&self.value) {
            findings.push(self.breach((key, problem, help)));
            self.forget(&format!("/{}", key.replace('.', "/")))?;
        }
        let settings: Settings = serde_json::from_value(self.value.clone())
            .map_err(|e| ConfigError::of(Finding::at_name("settings", e.to_string())))?;
        let all_fit = findings.len() == before;
        for breach in bounds::check(&settings, all_fit) {
            findings.push(self.breach(breach));
        }
        Ok(settings)
    }

    /// Puts the default where somebody gave what is at `pointer`, or what holds it.
    fn forget(&mut self, pointer: &str) -> Result<(), ConfigError> {
        let Some((given, _)) = self.given(pointer) else { return Ok(()) };
        let default = defaults()?.pointer(given).cloned();
        let (above, name) = given.rsplit_once('/').unwrap_or_default();
        if let Some(table) = self.value.pointer_mut(above).and_then(Value::as_object_mut) {
            match default {
                Some(default) => table.insert(name.to_owned(), default),
                None => table.remove(name),
            };
        }
        Ok(())
    }

    /// What is given at `pointer`, or holds it, and by whom.
    fn given<'p>(&self, pointer: &'p str) -> Option<(&'p str, &Giver)> {
        let mut given = pointer;
        loop {
            if let Some(giver) = self.givers.get(given) {
                return Some((given, giver));
            }
            given = &given[..given.rfind('/')?];
        }
    }

    /// Secrets in the open, and references that are none. The environment is a place for secrets;
    /// a file and a command line are read by others.
    fn wrong_secrets(&self) -> Vec<Problem> {
        let openness = Openness::of(&self.schema);
        let is_secret =
            |problem: &Problem| problem.pointer.split('/').any(|n| openness.is_secret(n));
        let no_references = malformed(&self.value, "").into_iter().filter(is_secret);
        let open = in_the_open(&self.value, "", &openness).into_iter();
        let refused = open.filter_map(|problem| {
            let (_, giver) = self.given(&problem.pointer)?;
            match giver {
                Giver::File => Some(problem),
                Giver::Variable(_) => None,
                Giver::Flag(_) => Some(Problem { text: IN_A_FLAG.to_owned(), ..problem }),
            }
        });
        no_references.chain(refused).collect()
    }

    fn breach(&self, (key, problem, help): bounds::Breach) -> Finding {
        let pointer = format!("/{}", key.replace('.', "/"));
        self.finding(&Problem { pointer, at_key: false, text: problem, help: Some(help) })
    }

    fn finding(&self, problem: &Problem) -> Finding {
        let key = problem.pointer.trim_start_matches('/').replace('/', ".");
        let text = format!("`{key}`: {}", problem.text);
        let finding = match (self.given(&problem.pointer), &self.document) {
            (Some((_, Giver::File)), Some(document)) => document.finding(&problem.pointer, text),
            (Some((_, giver)), _) => Finding::at_name(giver.name(), text),
            (None, _) => Finding::at_name("settings", text),
        };
        finding.with_help(problem.help.clone())
    }
}

fn defaults() -> Result<Value, ConfigError> {
    toml::from_str(DEFAULT_SETTINGS)
        .map_err(|error| ConfigError::Defect(format!("default.toml: {error}")))
}

fn unknown(keys: &[&str]) -> String {
    format!("there is no setting `{}`", keys.join("."))
}

fn pointer(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("/{}", token(key))).collect()
}

/// The text as the schema's type, a list by its commas; as text where it does not read, so that the schema refuses it.
fn typed(schema: &Value, text: &str) -> Value {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or("string");
    let read = match kind {
        "boolean" | "integer" | "number" => serde_json::from_str(text.trim()).ok(),
        "array" => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            return items.map(str::to_owned).collect();
        }
        _ => None,
    };
    read.filter(|value: &Value| !value.is_object() && !value.is_array())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
