//! Who asks a store that speaks S3, as AWS's own tools would find out: the settings, the
//! environment, a profile's files, and at last who this machine is.

use std::path::{Path, PathBuf};

use alluvium_model::Secret;

use super::lake::{BucketCredentials, S3Settings};
use crate::document::read_text;
use crate::environment::Environment;
use crate::error::{ConfigError, Finding};
use crate::secrets::Secrets;

const LIMIT: u64 = 1 << 20;
/// What says who a container, a pod or a machine is.
const MACHINE: [&str; 9] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_IMDSV1_FALLBACK",
];

/// What the files of AWS's tools say of one profile.
#[derive(Debug, Default)]
pub(super) struct Profile {
    pub(super) region: Option<String>,
    keys: Option<(Secret, Secret, Option<Secret>)>,
}

impl Profile {
    /// The profile that is asked for, by the settings or by the environment, or `default`. One that
    /// was asked for must be there.
    pub(super) fn find(
        asked: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let asked = asked.or_else(|| environment.get("AWS_PROFILE"));
        let name = asked.unwrap_or("default");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials", environment);
        let config = file("AWS_CONFIG_FILE", "config", environment);
        let credentials = Section::read(credentials.as_deref(), &[name])?;
        let config = Section::read(config.as_deref(), &[format!("profile {name}").as_str(), name])?;
        if asked.is_some() && credentials.is_none() && config.is_none() {
            let finding = Finding::at_name("lake.s3.profile", format!("there is no `{name}`"));
            let help = "a section of ~/.aws/credentials or ~/.aws/config".to_owned();
            return Err(ConfigError::of(finding.with_help(help)));
        }
        let (credentials, config) = (credentials.unwrap_or_default(), config.unwrap_or_default());
        let get = |key: &str| credentials.get(key).or_else(|| config.get(key));
        let keys = get("aws_access_key_id").zip(get("aws_secret_access_key"));
        let secret = |text: &str| Secret::new(text);
        Ok(Self {
            region: get("region").map(str::to_owned),
            keys: keys
                .map(|(id, key)| (secret(id), secret(key), get("aws_session_token").map(secret))),
        })
    }
}

/// Who asks: the first of the settings, the environment, the profile and the machine that says.
pub(super) fn credentials(
    s3: &S3Settings,
    profile: &Profile,
    environment: &Environment,
    secrets: &Secrets,
) -> Result<BucketCredentials, ConfigError> {
    let resolved = |secret: &Secret| secrets.secret(secret);
    if let (Some(id), Some(key)) = (&s3.access_key_id, &s3.secret_access_key) {
        let token = s3.session_token.as_ref().map(resolved).transpose()?;
        return Ok(BucketCredentials::Keys(resolved(id)?, resolved(key)?, token));
    }
    let is_given = |name: &str| {
        environment.get(name).is_some() || environment.get(&format!("{name}_FILE")).is_some()
    };
    let variable = |name: &str| resolved(&Secret::new(format!("${{env:{name}}}")));
    if is_given("AWS_ACCESS_KEY_ID") && s3.profile.is_none() {
        let token = is_given("AWS_SESSION_TOKEN").then(|| variable("AWS_SESSION_TOKEN"));
        let (id, key) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        return Ok(BucketCredentials::Keys(id, key, token.transpose()?));
    }
    if let Some((id, key, token)) = &profile.keys {
        return Ok(BucketCredentials::Keys(id.clone(), key.clone(), token.clone()));
    }
    let told = |name: &&str| Some(((*name).to_owned(), Secret::new(environment.get(name)?)));
    Ok(BucketCredentials::Machine(MACHINE.iter().filter_map(told).collect()))
}

/// Refuses what no request can carry: region, key id and token stand in its head.
pub(super) fn check(region: &str, credentials: &BucketCredentials) -> Result<(), ConfigError> {
    let mut texts = vec![("lake.s3.region", region)];
    if let BucketCredentials::Keys(id, _, token) = credentials {
        texts.push(("lake.s3.access_key_id", id.expose()));
        texts.extend(token.iter().map(|token| ("lake.s3.session_token", token.expose())));
    }
    let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let Some((name, _)) = texts.into_iter().find(|(_, text)| !is_fit(text)) else { return Ok(()) };
    let problem = "holds a blank, a line's end or a letter that no request can carry";
    let help = "one word of ASCII letters, digits and signs, wherever it is taken from".to_owned();
    Err(ConfigError::of(Finding::at_name(name, problem).with_help(help)))
}

fn file(variable: &str, name: &str, environment: &Environment) -> Option<PathBuf> {
    let named = environment.get(variable).map(PathBuf::from);
    named.or_else(|| Some(Path::new(environment.get("HOME")?).join(".aws").join(name)))
}

/// A section of a file of AWS's tools.
#[derive(Default)]
struct Section(Vec<(String, String)>);

impl Section {
    /// The first of the sections of these names; none if there is no file.
    fn read(path: Option<&Path>, names: &[&str]) -> Result<Option<Self>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        let text = read_text(path, &path.display().to_string(), LIMIT).map_err(ConfigError::of)?;
        let text = text.unwrap_or_default();
        Ok(names.iter().find_map(|name| Self::of(&text, name)))
    }

    fn of(text: &str, name: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| {
            let inner = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
            inner.is_some_and(|inner| inner.trim() == name)
        })?;
        let members = lines.take_while(|line| !line.starts_with('['));
        let pairs = members.filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            Some((key.trim().to_owned(), value.trim().to_owned()))
        });
        Some(Self(pairs.collect()))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "[default]\n# note\naws_access_key_id = one\n\n[ profile two ]\nregion=eu\n";
        let first = Section::of(text, "default").unwrap();
        assert_eq!((first.get("aws_access_key_id"), first.get("region")), (Some("one"), None));
        assert_eq!(Section::of(text, "profile two").unwrap().get("region"), Some("eu"));
        assert!(Section::of(text, "two").is_none());
    }
}
