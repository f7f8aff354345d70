//! A bucket of a store that speaks S3, as the lake needs it.

mod answer;
mod bucket;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::Secret;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

pub(crate) use answer::{Answer, Blame};
use bucket::Bucket;

use crate::LakeError;

/// After so many tries a request has failed, however little time they took.
const MOST_RETRIES: usize = 10;
/// The first wait before a request is tried again; each further one is longer.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Which bucket the lake stands in, and how to talk to its store.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The bucket's name. It must be there.
    pub bucket: String,
    /// Where in the bucket the lake stands, without slashes at its ends; empty for its root.
    pub prefix: String,
    /// The store's address, without the bucket; `None` for Amazon's own.
    pub endpoint: Option<Url>,
    /// The bucket's region. Stores other than Amazon's take any.
    pub region: String,
    /// Whether the bucket is named in the path of addresses, and not in their host.
    pub path_style: bool,
    /// Whether an endpoint without encryption may be spoken to.
    pub allow_http: bool,
    /// Who asks.
    pub credentials: Credentials,
    /// So long one request may take, with all that it carries.
    pub request_time: Duration,
    /// So long a request that failed is tried again, waits included.
    pub retry_time: Duration,
}

/// Who asks the store.
#[derive(Clone)]
pub enum Credentials {
    /// A key and its secret.
    Keys {
        /// The key's name.
        id: Secret,
        /// The key.
        secret: Secret,
        /// What short-lived keys need besides.
        token: Option<Secret>,
    },
    /// Whoever this machine, container or pod is: what the environment says of that, by the names
    /// of its variables.
    Machine(Vec<(String, Secret)>),
}

/// Shows nothing that identifies anybody.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Keys(***)",
            Self::Machine(_) => "Machine(***)",
        })
    }
}

impl Credentials {
    /// The texts that no error may hold.
    fn texts(&self) -> Vec<Secret> {
        match self {
            Self::Keys { id, secret, token } => {
                [id, secret].into_iter().chain(token).cloned().collect()
            }
            Self::Machine(_) => Vec::new(),
        }
    }
}

impl S3Settings {
    /// Where the lake stands, as other readers of Delta tables name it. Ends in a slash.
    pub(super) fn url(&self) -> Result<Url, LakeError> {
        let wrong = |e| LakeError::Mismatch(format!("there is no bucket `{}`: {e}", self.bucket));
        let mut url = Url::parse(&format!("s3://{}/", self.bucket)).map_err(wrong)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.folder()?.parts()).push("");
        }
        Ok(url)
    }

    /// The prefix as a path.
    pub(super) fn folder(&self) -> Result<Path, LakeError> {
        let prefix = Path::parse(&self.prefix);
        prefix.map_err(|e| LakeError::Mismatch(format!("`{}` is no prefix: {e}", self.prefix)))
    }

    /// The bucket. Nothing is asked of the store yet.
    pub(super) fn open(&self) -> Result<Bucket, LakeError> {
        let client =
            ClientOptions::new().with_allow_http(self.allow_http).with_timeout(self.request_time);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: FIRST_WAIT,
                max_backoff: LONGEST_WAIT,
                ..BackoffConfig::default()
            },
            max_retries: MOST_RETRIES,
            retry_timeout: self.retry_time,
        };
        let mut builder = AmazonS3Builder::new()
            .with_client_options(client)
            .with_retry(retry)
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(!self.path_style);
        if let Some(endpoint) = self.address()? {
            builder = builder.with_endpoint(endpoint);
        }
        match &self.credentials {
            Credentials::Keys { id, secret, token } => {
                builder =
                    builder.with_access_key_id(id.expose()).with_secret_access_key(secret.expose());
                if let Some(token) = token {
                    builder = builder.with_token(token.expose());
                }
            }
            Credentials::Machine(options) => {
                for (name, value) in options {
                    if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value.expose());
                    }
                }
            }
        }
        let store = builder.build().map_err(|e| {
            LakeError::Mismatch(format!("the store's settings do not fit each other: {e}"))
        })?;
        Ok(Bucket::new(&self.bucket, Arc::new(store), self.credentials.texts()))
    }

    /// The endpoint as the client wants it: with the bucket in the host unless it is in the path.
    fn address(&self) -> Result<Option<String>, LakeError> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let mut endpoint = endpoint.clone();
        if !self.path_style {
            let host = endpoint.host_str().unwrap_or_default();
            let host = format!("{}.{host}", self.bucket);
            endpoint.set_host(Some(&host)).map_err(|e| {
                LakeError::Mismatch(format!(
                    "`{}` cannot stand before the endpoint's host ({e}); name the bucket in the \
                     path",
                    self.bucket
                ))
            })?;
        }
        Ok(Some(endpoint.as_str().trim_end_matches('/').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> S3Settings {
        S3Settings {
            bucket: "lake".to_owned(),
            prefix: "a/b".to_owned(),
            endpoint: Some(Url::parse("https://store.example:9000").unwrap()),
            region: "us-east-1".to_owned(),
            path_style: true,
            allow_http: false,
            credentials: Credentials::Keys {
                id: Secret::new("canary-id"),
                secret: Secret::new("canary-secret"),
                token: Some(Secret::new("canary-token")),
            },
            request_time: Duration::from_secs(60),
            retry_time: Duration::from_secs(30),
        }
    }

    #[test]
    fn the_bucket_stands_in_the_path_or_in_the_host() {
        let path = settings();
        assert_eq!(path.address().unwrap().unwrap(), "https://store.example:9000");
        let host = S3Settings { path_style: false, ..settings() };
        assert_eq!(host.address().unwrap().unwrap(), "https://lake.store.example:9000");
        let numbers = Some(Url::parse("http://127.0.0.1:9000").unwrap());
        let neither = S3Settings { endpoint: numbers, path_style: false, ..settings() };
        let error = neither.address().unwrap_err().to_string();
        assert!(error.contains("name the bucket in the path"), "{error}");
        assert_eq!(path.url().unwrap().as_str(), "s3://lake/a/b/");
    }

    #[test]
    fn nothing_shows_credentials() {
        let settings = settings();
        let shown = format!("{settings:?} {:?}", settings.open().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
