//! Where the lake stands: a folder, or a bucket, with what it takes to be let in.

use std::path::PathBuf;

use alluvium_model::Secret;
use alluvium_model::quantity::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::aws::{self, Profile};
use super::bounds::Breach;
use crate::address;
use crate::error::{ConfigError, Finding};

/// Raw objects and Delta tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// Its folder. Default: `lake` in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Its place in a bucket instead of a folder, such as `s3://bucket/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The store that the bucket is in.
    pub s3: S3Settings,
}

/// A store that speaks S3, and who asks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// Its address, such as `https://minio.example:9000`. Default: what `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL` says, else Amazon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region. Default: what `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile says,
    /// else `us-east-1`, which stores other than Amazon's take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether addresses name the bucket in their path, and not in their host.
    pub path_style: bool,
    /// Whether an endpoint that does not encrypt may be spoken to.
    pub allow_http: bool,
    /// The key's name: a reference, such as `${file:/run/secrets/key-id}`. Default: what
    /// `AWS_ACCESS_KEY_ID` says, else the profile, else who this machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Secret>,
    /// The key: a reference. Default: as for `access_key_id`, from `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// What short-lived keys need besides: a reference. Default: as for `access_key_id`, from
    /// `AWS_SESSION_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// The profile in the files of AWS's own tools. Default: what `AWS_PROFILE` says, else
    /// `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// So long one request may take with all that it carries.
    pub request_time: Period,
    /// So long a request that failed is tried again.
    pub retry_time: Period,
}

/// Where the lake stands.
#[derive(Debug, Clone, PartialEq)]
pub enum LakePlace {
    /// In a folder, absolute.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Box<BucketPlace>),
}

/// A bucket, its store, and who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketPlace {
    /// The bucket's name.
    pub bucket: String,
    /// Where in it the lake stands, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The store's address; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: String,
    /// Who asks, in the clear.
    pub credentials: BucketCredentials,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum BucketCredentials {
    /// A key, its secret, and what short-lived ones need besides.
    Keys(Secret, Secret, Option<Secret>),
    /// Who this machine, container or pod is, as these variables of the environment say.
    Machine(Vec<(String, Secret)>),
}

impl Settings {
    /// Where the lake stands. Reads secrets: ask just before opening it.
    ///
    /// # Errors
    /// All references to secrets that lead nowhere.
    pub fn lake_place(&self) -> Result<LakePlace, ConfigError> {
        let Some((bucket, prefix)) = self.lake.url.as_deref().and_then(split) else {
            return Ok(LakePlace::Folder(self.lake_path()));
        };
        let (s3, environment) = (&self.lake.s3, self.environment());
        let first = |names: [&str; 2]| names.iter().find_map(|name| environment.get(name));
        let profile = Profile::find(s3.profile.as_deref(), environment)?;
        let endpoint = s3.endpoint.as_deref();
        let endpoint = endpoint.or(first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        if let Some((problem, help)) = endpoint.and_then(|address| wrong(address, s3.allow_http)) {
            let finding = Finding::at_name("lake.s3.endpoint", problem);
            return Err(ConfigError::of(finding.with_help(help.to_owned())));
        }
        let region = s3.region.as_deref().or(first(["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.or(profile.region.as_deref()).unwrap_or("us-east-1").to_owned();
        let credentials = aws::credentials(s3, &profile, environment, &self.secrets())?;
        aws::check(&region, &credentials)?;
        Ok(LakePlace::Bucket(Box::new(BucketPlace {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region,
            credentials,
        })))
    }
}

/// What does not fit each other, or is no place.
pub(super) fn check(lake: &LakeSettings) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach = |key, problem: &str, help: &str| {
        breaches.push((key, problem.to_owned(), help.to_owned()));
    };
    if let Some(url) = &lake.url {
        match split(url) {
            None => breach("lake.url", "this is no place in a bucket", "s3://bucket/prefix"),
            Some((bucket, _)) if !is_bucket(bucket) => breach(
                "lake.url",
                "this is no name of a bucket",
                "3 to 63 lower-case letters, digits, dots and hyphens",
            ),
            Some((_, prefix)) if !is_prefix(prefix) => breach(
                "lake.url",
                "this is no prefix of a lake",
                "letters, digits, `-`, `_`, `.` and `=`, in parts that are divided by `/`",
            ),
            Some(_) if lake.path.is_some() => {
                breach("lake.path", "the lake stands in a bucket: `lake.url`", "one of the two");
            }
            Some(_) => {}
        }
    }
    let s3 = &lake.s3;
    if let Some((problem, help)) = s3.endpoint.as_deref().and_then(|a| wrong(a, s3.allow_http)) {
        breach("lake.s3.endpoint", problem, help);
    }
    match (&s3.access_key_id, &s3.secret_access_key) {
        (Some(_), None) => {
            breach("lake.s3.access_key_id", "its key is missing", "lake.s3.secret_access_key");
        }
        (None, Some(_)) => {
            breach("lake.s3.secret_access_key", "its name is missing", "lake.s3.access_key_id");
        }
        (None, None) if s3.session_token.is_some() => {
            breach("lake.s3.session_token", "its key is missing", "lake.s3.access_key_id");
        }
        _ => {}
    }
    breaches
}

/// What is wrong with a store's address, and what would be right.
fn wrong(endpoint: &str, allow_http: bool) -> Option<(&'static str, &'static str)> {
    if let Some(problem) = address::wrong(endpoint) {
        return Some((problem, "such as https://minio.example:9000"));
    }
    if address::has_user(endpoint) {
        let help = "leave it out; `lake.s3.access_key_id` says who asks";
        return Some(("an address must not hold a user or a password", help));
    }
    let help = "https://…, or `lake.s3.allow_http = true` where nobody listens";
    (!allow_http && is_plain(endpoint)).then_some(("this address does not encrypt", help))
}

/// Bucket and prefix.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, prefix.trim_end_matches('/')))
}

fn is_bucket(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (3..=63).contains(&name.len()) && name.bytes().all(fine)
}

fn is_prefix(prefix: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(fine);
    prefix.is_empty() || prefix.split('/').all(part)
}

fn is_plain(address: &str) -> bool {
    address.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_bucket_has_a_bucket_and_may_have_a_prefix() {
        assert_eq!(split("s3://lake"), Some(("lake", "")));
        assert_eq!(split("s3://lake/a/b/"), Some(("lake", "a/b")));
        for no_place in ["s3://", "s3:///a", "lake/a", "https://lake/a", "gs://lake"] {
            assert_eq!(split(no_place), None, "{no_place}");
        }
        assert!(is_bucket("my-lake.2") && !is_bucket("My") && !is_bucket("ab"));
        assert!(is_prefix("") && is_prefix("a/b_1=x") && !is_prefix("a//b") && !is_prefix("../a"));
        assert!(!is_prefix("a b"));
    }
}
