//! Connector settings as real connectors have them, for a catalog.

#![allow(dead_code, reason = "only the schemas are used")]

use alluvium_config::SchemaCatalog;
use alluvium_model::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// A web API.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebConnection {
    /// Where the API is.
    base_url: String,
    /// How to authenticate.
    #[serde(default)]
    auth: Auth,
    /// Sent with each request.
    #[serde(default)]
    headers: std::collections::BTreeMap<String, Secret>,
}

/// A web API whose address is looked at.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FeedConnection {
    /// Where the API is.
    #[schemars(extend("format" = "uri"))]
    base_url: String,
}

/// What to ask for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FeedSource {
    /// Where the records stand.
    #[schemars(extend("format" = "json-path", "pattern" = "^\\$"))]
    records: Option<String>,
}

/// Nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Auth {
    /// Nothing is sent.
    #[default]
    None,
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer {
        /// The token.
        token: Secret,
        /// The token of before, if any.
        old_token: Option<Secret>,
    },
}

/// What to ask for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebSource {
    /// The path below `base_url`.
    path: String,
    /// Where the records stand.
    records: Option<String>,
}

/// A file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileConnection {
    /// The file.
    path: String,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FileSource {
    /// The table.
    table: Option<String>,
}

pub(crate) fn catalog() -> SchemaCatalog {
    SchemaCatalog::default()
        .with::<WebConnection, WebSource>("web")
        .with::<FileConnection, FileSource>("file")
        .with::<FeedConnection, FeedSource>("feed")
        .with::<Nothing, Nothing>("push")
}
