//! What `systems.json` and `entities.json` say about a REST API.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_connector::http::{Auth, HttpClient, HttpSettings, RateLimitSettings};
use alluvium_connector::{ConnectContext, Connector, JsonPath};
use alluvium_model::{Secret, Source, SourceError, SystemSpec};
use async_trait::async_trait;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::source::RestSource;

/// The connector for systems of type `rest`.
pub struct RestConnector;

#[async_trait]
impl Connector for RestConnector {
    type Connection = RestConnection;
    type EntitySource = RestEntity;
    const TYPE: &'static str = "rest";

    async fn connect(
        system: &SystemSpec,
        connection: RestConnection,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        let misfit =
            |what: &str| SourceError::Misconfigured(format!("system `{}`: {what}", system.name));
        let base = Url::parse(&connection.base_url)
            .map_err(|e| misfit(&format!("`base_url` is no address: {e}")))?;
        let zone = TimeZone::get(&system.timezone)
            .map_err(|_| misfit(&format!("unknown time zone `{}`", system.timezone)))?;
        let settings = HttpSettings {
            timeout: Duration::from_secs(connection.timeout_seconds.clamp(1, 3600)),
            max_body_bytes: connection.max_body_bytes,
            rate_limit: connection.rate_limit,
            ..HttpSettings::default()
        };
        let client =
            HttpClient::new(&base, connection.auth, connection.headers, settings, &context)?;
        Ok(Box::new(RestSource::new(client, base, zone, context.clock)))
    }
}

/// How to reach a REST API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestConnection {
    /// The address that the paths of the entities are appended to.
    #[schemars(extend("format" = "uri"))]
    pub base_url: String,
    /// How requests are authenticated. Default: not at all.
    #[serde(default)]
    pub auth: Auth,
    /// Headers sent with each request, to this host only. Their values are kept like secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How often requests may be sent, by all entities with the same credential together.
    #[serde(default)]
    pub rate_limit: Option<RateLimitSettings>,
    /// How long a whole request may take, 1 to 3600 seconds. Default 30.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: u64,
    /// How large an answer may be, unpacked. Default 67108864 (64 MiB).
    #[serde(default = "default_body")]
    pub max_body_bytes: usize,
}

/// Which records of a REST API make an entity.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestEntity {
    /// The path, appended to the system's `base_url`.
    pub path: String,
    /// The method. Default `GET`.
    #[serde(default)]
    pub method: RequestMethod,
    /// For `POST`: the body, sent as JSON. It must ask for data, not change any.
    #[serde(default)]
    pub body: Option<Value>,
    /// Parameters of the query: texts, numbers or booleans.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// Where the records stand in an answer. Default: the elements of an answer that is an array,
    /// or the answer itself if it is an object. An answer without the array that the path names is
    /// an error, so that an error message with status 200 is not taken for "no records".
    #[serde(default)]
    pub records: Option<JsonPath>,
    /// How an answer leads to the next one. Default: it does not.
    #[serde(default)]
    pub pagination: Pagination,
    /// For `load: delta`: asks only for what changed since the last run.
    #[serde(default)]
    pub incremental: Option<Incremental>,
    /// Whether an answer without pages is asked for with `If-None-Match` and `If-Modified-Since`,
    /// where the source gave an `ETag` or a date. Default true.
    #[serde(default = "yes")]
    pub conditional: bool,
    /// How many pages a run may have; more is an error. Default 10000.
    #[serde(default = "default_pages")]
    #[schemars(range(min = 1))]
    pub max_pages: u32,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RequestMethod {
    /// `GET`
    #[default]
    Get,
    /// `POST`, for APIs that take a query as a body.
    Post,
}

/// How an answer leads to the next one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pagination {
    /// One answer has everything.
    #[default]
    None,
    /// Pages are numbered; the first empty one is the end.
    Page {
        /// The parameter with the page's number.
        param: String,
        /// The parameter with the number of records per page.
        #[serde(default)]
        size_param: Option<String>,
        /// Records per page.
        #[serde(default)]
        size: Option<u64>,
        /// The first page's number. Default 1.
        #[serde(default = "one")]
        start: u64,
        /// Whether a page with fewer than `size` records is the last one, which saves the request
        /// for the empty page. Leave it out where the source may give fewer than it was asked for.
        #[serde(default)]
        short_page_ends: bool,
    },
    /// Records are counted; the first empty page is the end.
    Offset {
        /// The parameter with the number of records to leave out.
        param: String,
        /// The parameter with the number of records per page.
        #[serde(default)]
        size_param: Option<String>,
        /// Records per page.
        #[serde(default)]
        size: Option<u64>,
        /// The first record's number. Default 0.
        #[serde(default)]
        start: u64,
        /// Whether a page with fewer than `size` records is the last one.
        #[serde(default)]
        short_page_ends: bool,
    },
    /// Each answer has a token that leads to the next; none, null or an empty one is the end.
    Cursor {
        /// The parameter that the token is sent back in.
        param: String,
        /// Where the token stands in the answer.
        path: JsonPath,
    },
    /// Each answer has the address of the next; none, null or an empty one is the end.
    NextUrl {
        /// Where the address stands in the answer. It must be of the same host.
        path: JsonPath,
    },
    /// Each answer has a `Link` header with `rel="next"`; none is the end.
    LinkHeader,
}

/// Asks only for what changed since the last run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incremental {
    /// The declared column that tells when a record changed: its highest value is where the next
    /// run goes on. Records without a value are always read.
    pub column: String,
    /// The parameter that the value is sent in. Without it, the source gives everything each time
    /// and older records are left out here.
    #[serde(default)]
    pub param: Option<String>,
    /// How times are written in the parameter, and what a number in the column means.
    #[serde(default)]
    pub format: Format,
    /// How far each run reaches back behind the highest value of the last: seconds, or units of a
    /// `raw` number. Records that the source shows later than this are missed. Default 0.
    #[serde(default)]
    pub overlap_seconds: u64,
    /// Where the first run begins: a time in RFC 3339, or a `raw` value. Default: at the beginning.
    #[serde(default)]
    pub initial: Option<String>,
}

/// How a cursor value is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RFC 3339 in UTC, to the millisecond. A number in the column is milliseconds since 1970.
    #[default]
    Iso8601,
    /// Seconds since 1970, also in the column.
    Unix,
    /// Milliseconds since 1970, also in the column.
    UnixMs,
    /// As the source wrote it: compared as a number, as an RFC 3339 time, or as text.
    Raw,
}

fn default_timeout() -> u64 {
    30
}

fn default_body() -> usize {
    64 << 20
}

fn default_pages() -> u32 {
    10_000
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}
