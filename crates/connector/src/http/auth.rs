//! How we show a source who we are.

use alluvium_model::Secret;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// How requests are authenticated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// User name and password.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A key in a header or in the query.
    ApiKey {
        /// The header's or the parameter's name.
        name: String,
        /// The key.
        value: Secret,
        /// Where the key stands.
        #[serde(default, rename = "in")]
        place: ApiKeyPlace,
    },
}

/// Where an API key stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyPlace {
    /// In a header of the given name.
    #[default]
    Header,
    /// In a query parameter of the given name.
    Query,
}

impl Auth {
    /// The header that authenticates, marked as sensitive. The error says what does not fit into a
    /// header, without the value.
    pub(crate) fn header(&self) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        let (name, value) = match self {
            Self::None | Self::ApiKey { place: ApiKeyPlace::Query, .. } => return Ok(None),
            Self::Basic { username, password } => {
                (AUTHORIZATION, format!("Basic {}", base64(username, password)))
            }
            Self::Bearer { token } => (AUTHORIZATION, format!("Bearer {}", token.expose())),
            Self::ApiKey { name, value, place: ApiKeyPlace::Header } => {
                let header = HeaderName::try_from(name)
                    .map_err(|_| format!("`{name}` is not a header name"))?;
                (header, value.expose().to_owned())
            }
        };
        sensitive(&value).map(|value| Some((name, value)))
    }

    /// Adds the key to the query, where it belongs there.
    pub(crate) fn add_to_query(&self, url: &mut Url) {
        if let Self::ApiKey { name, value, place: ApiKeyPlace::Query } = self {
            remove_parameter(url, name);
            url.query_pairs_mut().append_pair(name, value.expose());
        }
    }

    /// Takes the key out of a URL that somebody else made.
    pub(crate) fn remove_from_query(&self, url: &mut Url) {
        if let Self::ApiKey { name, place: ApiKeyPlace::Query, .. } = self {
            remove_parameter(url, name);
        }
    }

    /// The secret itself, to be kept out of texts.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Basic { password: secret, .. }
            | Self::Bearer { token: secret }
            | Self::ApiKey { value: secret, .. } => Some(secret),
        }
    }
}

/// A header value that no Debug output shows.
pub(crate) fn sensitive(value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| "a header's value has characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn base64(username: &str, password: &Secret) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{username}:{}", password.expose()))
}

fn remove_parameter(url: &mut Url, name: &str) {
    if url.query_pairs().any(|(key, _)| key == name) {
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| key != name)
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(others);
    }
}
