//! The settings of the process: typed, with the defaults of `default.toml`.

mod aws;
mod bounds;
mod kafka;
mod known;
mod lake;
mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alluvium_model::quantity::{ByteSize, Period};
use alluvium_model::{Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::ConfigError;
use crate::secrets::Secrets;

pub(crate) use bounds::LISTEN_PATTERN;
pub use kafka::KafkaBusSettings;
pub(crate) use known::schema;
pub use lake::{BucketCredentials, BucketPlace, LakePlace, LakeSettings, S3Settings};
pub use load::{DEFAULT_SETTINGS, LoadOptions};

/// All settings. Flags win over the environment, the environment over `alluvium.toml`, and that
/// over the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The data folder: where everything durable lives that has no place of its own.
    pub data: PathBuf,
    /// What is ingested.
    pub metadata: MetadataSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Health, metrics and the API.
    pub http: HttpSettings,
    /// The bus.
    pub bus: BusSettings,
    /// Raw objects and Delta tables.
    pub lake: LakeSettings,
    /// Runs, batches, counts, leases, quarantine.
    pub ledger: LedgerSettings,
    /// How the layers apply batches.
    pub layers: LayerSettings,
    /// How the Delta tables are looked after.
    pub maintenance: MaintenanceSettings,
    /// How much happens at once, and what comes after a failure.
    pub runtime: RuntimeSettings,
    /// Where relative paths start, and the environment that was read.
    #[serde(skip)]
    #[schemars(skip)]
    origin: Origin,
}

/// Where the metadata stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataSettings {
    /// The file of the systems.
    pub systems: PathBuf,
    /// The file of the entities.
    pub entities: PathBuf,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// What is logged: this level and those more severe.
    pub level: LogLevel,
    /// Text for people, or JSON for machines.
    pub format: LogFormat,
    /// Levels per target, such as `info,alluvium_bus=debug`; replaces `level`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// How severe a log line is at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may be wrong.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Health, metrics and the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Whether it is served.
    pub enabled: bool,
    /// The address and port it is served at.
    #[schemars(with = "String", extend("pattern" = LISTEN_PATTERN))]
    pub listen: SocketAddr,
    /// Names by which requests may call this host, beside IP addresses. Others are refused, because
    /// a web page may have bent its own name to this host's address.
    pub allowed_hosts: Vec<String>,
    /// So many connections are served at the same time; further ones wait.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_connections: u32,
}

/// The bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusSettings {
    /// Which bus it is; the settings of the others are not looked at.
    #[serde(rename = "type")]
    pub kind: BusType,
    /// The bus inside the process: a durable log on local disk.
    pub embedded: EmbeddedBusSettings,
    /// The bus on NATS JetStream.
    pub nats: NatsBusSettings,
    /// The bus on a cluster of Kafka.
    pub kafka: KafkaBusSettings,
}

/// Which bus it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusType {
    /// Inside the process.
    Embedded,
    /// NATS JetStream.
    Nats,
    /// Kafka.
    Kafka,
}

/// The bus inside the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedBusSettings {
    /// Its folder. Default: `bus` in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// So much is kept of a topic, and more while raw has not landed it.
    pub retention_bytes: ByteSize,
    /// So long a topic's messages are kept, and longer while raw has not landed them.
    pub retention_time: Period,
    /// So much of a topic may wait for raw; then its publishers wait.
    pub max_unlanded_bytes: ByteSize,
    /// A larger message is refused.
    pub max_message_bytes: ByteSize,
    /// Memory for recently read blocks.
    pub cache_bytes: ByteSize,
}

/// The bus on NATS JetStream. How we are known there is said in one way at most: `user` and
/// `password`, `token`, `nkey`, or `credentials`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsBusSettings {
    /// The servers of one cluster, such as `nats://127.0.0.1:4222` or `tls://nats.example`.
    #[schemars(length(min = 1))]
    pub servers: Vec<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password, as `${env:NAME}` or `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A token, as `${env:NAME}` or `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The seed of an nkey, as `${env:NAME}` or `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey: Option<Secret>,
    /// The text of a credentials file, as `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Secret>,
    /// How the connection is protected.
    pub tls: NatsTlsSettings,
    /// What the names of all streams and subjects begin with.
    #[schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$"))]
    pub prefix: String,
    /// On how many servers of the cluster a stream is kept.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u32,
    /// A bound for each topic's stream that the server holds, and sets aside when the stream is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stream_bytes: Option<ByteSize>,
    /// So much is kept of a topic, and more while raw has not landed it.
    pub retention_bytes: ByteSize,
    /// So long a topic's messages are kept, and longer while raw has not landed them.
    pub retention_time: Period,
    /// So much of a topic may wait for raw; then its publishers wait.
    pub max_unlanded_bytes: ByteSize,
    /// A larger message is refused. The server's `max_payload` bounds it further.
    pub max_message_bytes: ByteSize,
    /// So much is kept of the audit events.
    pub audit_bytes: ByteSize,
    /// So long audit events are kept.
    pub audit_time: Period,
}

/// How the connection to NATS is protected. `tls://` in `servers` asks for TLS too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTlsSettings {
    /// Whether a connection without TLS is refused.
    pub required: bool,
    /// A file of the certificates that are trusted, instead of those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The file of our own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// The ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// Its SQLite file. Default: `ledger.db` in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A PostgreSQL database that takes the file's place: `postgres://user@host:5432/database`, without
    /// a password. `?sslmode=verify-full` asks for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The password for `url`: `${env:NAME}` or `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// So many connections to PostgreSQL at the same time; who finds none waits for one.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_connections: u32,
    /// A statement to PostgreSQL that takes longer is given up.
    pub statement_time: Period,
    /// Rows older than this are removed; running totals are kept.
    pub retention: Period,
}

/// How the layers apply batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerSettings {
    /// A batch ends at so many records.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub batch_records: u64,
    /// A batch ends at so many bytes of messages.
    pub batch_bytes: ByteSize,
    /// Raw writes an object once so many bytes have come.
    pub raw_linger_bytes: ByteSize,
    /// Raw writes an object after so long, however little has come.
    pub raw_linger_time: Period,
}

/// How the Delta tables are looked after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSettings {
    /// A checkpoint is written after so many commits of a table.
    #[schemars(range(min = 1, max = 100_000))]
    pub checkpoint_commits: u64,
    /// So long a table's log is kept, and with it the versions that can be asked for.
    pub log_retention: Period,
    /// So long files are kept that no version refers to, for those who still read them.
    pub garbage_age: Period,
    /// Small files are put together until they are about so large.
    pub file_bytes: ByteSize,
    /// So many files of like size become one.
    #[schemars(range(min = 2, max = 100))]
    pub files_merged: u32,
    /// A file is written anew when about so many of 100 rows are deleted.
    #[schemars(range(min = 1, max = 80))]
    pub deleted_percent: u32,
}

/// How much happens at once, and what comes after a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSettings {
    /// What `alluvium run` does of the work, where several processes share a bus. With the embedded
    /// bus one process does everything.
    #[schemars(length(min = 1))]
    pub roles: Vec<Role>,
    /// Where several processes share the work: one that the ledger has not heard of for so long has
    /// lost its work to the others. It stops by itself after half of it.
    pub lease_time: Period,
    /// So many systems are polled at the same time.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_concurrent_runs: u32,
    /// So many bytes of records are held in memory by all layers together.
    pub memory_bytes: ByteSize,
    /// So long a stop waits for what is under way.
    pub drain_time: Period,
    /// What comes after a failure that may mend itself.
    pub retry: RetrySettings,
}

/// What comes after a failure that may mend itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    /// The first wait; each further one doubles.
    pub initial: Period,
    /// No wait is longer.
    pub max: Period,
    /// So many tries in all, then the run fails.
    #[schemars(range(min = 1, max = 1_000))]
    pub attempts: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Origin {
    folder: PathBuf,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Settings {
    /// The folder where relative paths start, absolute.
    pub fn folder(&self) -> &Path {
        &self.origin.folder
    }

    /// The `alluvium.toml` that was read, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.origin.file.as_deref()
    }

    /// The data folder, absolute.
    pub fn data_path(&self) -> PathBuf {
        self.origin.folder.join(&self.data)
    }

    /// The embedded bus's folder, absolute.
    pub fn bus_path(&self) -> PathBuf {
        self.own_or(self.bus.embedded.path.as_deref(), "bus")
    }

    /// The lake's folder, absolute.
    pub fn lake_path(&self) -> PathBuf {
        self.own_or(self.lake.path.as_deref(), "lake")
    }

    /// The password of the ledger's server. Ask just before connecting.
    pub fn ledger_password(&self) -> Result<Option<Secret>, ConfigError> {
        self.ledger.password.as_ref().map(|password| self.secret(password)).transpose()
    }

    /// The ledger's file, absolute. It is none where [`LedgerSettings::url`] is given.
    pub fn ledger_path(&self) -> PathBuf {
        self.own_or(self.ledger.path.as_deref(), "ledger.db")
    }

    /// The systems' file, absolute.
    pub fn systems_path(&self) -> PathBuf {
        self.origin.folder.join(&self.metadata.systems)
    }

    /// The entities' file, absolute.
    pub fn entities_path(&self) -> PathBuf {
        self.origin.folder.join(&self.metadata.entities)
    }

    /// What resolves the secrets of the metadata: with the environment, the `.env` file and the
    /// folder of these settings.
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.origin.environment.clone(), &self.origin.folder)
    }

    /// The largest message that the bus takes, as far as the settings say.
    pub fn max_message_bytes(&self) -> ByteSize {
        match self.bus.kind {
            BusType::Embedded => self.bus.embedded.max_message_bytes,
            BusType::Nats => self.bus.nats.max_message_bytes,
            BusType::Kafka => self.bus.kafka.max_message_bytes,
        }
    }

    /// A secret of the settings, its references replaced. Ask just before connecting.
    pub fn secret(&self, secret: &Secret) -> Result<Secret, ConfigError> {
        self.secrets().secret(secret)
    }

    fn environment(&self) -> &Environment {
        &self.origin.environment
    }

    fn own_or(&self, own: Option<&Path>, otherwise: &str) -> PathBuf {
        match own {
            Some(path) => self.origin.folder.join(path),
            None => self.data_path().join(otherwise),
        }
    }
}

impl LogSettings {
    /// The levels as directives: `filter`, or `level` for everything.
    pub fn directives(&self) -> String {
        self.filter.clone().unwrap_or_else(|| self.level.as_str().to_owned())
    }
}

impl LogLevel {
    /// The level as text.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}
