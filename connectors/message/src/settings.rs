//! What `systems.json` and `entities.json` say about a foreign log.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_connector::{ConnectContext, Connector};
use alluvium_model::{Secret, Source, SourceError, SystemSpec};
use alluvium_wire::Mapping;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::kafka::KafkaLog;
use crate::log::Log;
use crate::nats::NatsLog;
use crate::source::MessageSource;

/// The connector for systems of type `message`.
pub struct MessageConnector;

#[async_trait]
impl Connector for MessageConnector {
    type Connection = MessageConnection;
    type EntitySource = MessageEntity;
    const TYPE: &'static str = "message";

    async fn connect(
        system: &SystemSpec,
        connection: MessageConnection,
        _: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        if connection.servers.is_empty() {
            let text = format!("system `{}`: name at least one of its `servers`", system.name);
            return Err(SourceError::Misconfigured(text));
        }
        let timeout = Duration::from_secs(connection.timeout_seconds.clamp(1, 600));
        let engine = connection.engine;
        let log: Box<dyn Log> = match engine {
            Engine::Kafka => Box::new(KafkaLog::new(&connection, timeout)?),
            Engine::Nats => Box::new(NatsLog::connect(&connection, timeout).await?),
        };
        Ok(Box::new(MessageSource::new(engine, log)))
    }
}

/// How to reach the log that other programs write to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageConnection {
    /// Which engine it is.
    pub engine: Engine,
    /// Where it is: `host:port` of Kafka's brokers, `nats://host:port` or `tls://host:port` of
    /// servers of NATS.
    #[schemars(length(min = 1))]
    pub servers: Vec<String>,
    /// How to log in, TLS, and more. For Kafka: properties of librdkafka, such as
    /// `security.protocol` and `sasl.password`; those that would break a guarantee are refused. For
    /// NATS: `user` and `password`, `token`, `nkey` (the seed) or `credentials` (the text of a
    /// `.creds` file), and `tls.ca.file`, `tls.cert.file`, `tls.key.file`. Values are kept like
    /// secrets.
    #[serde(default)]
    pub options: BTreeMap<String, Secret>,
    /// For Kafka: what the names of the consumer groups begin with in which the offsets are noted,
    /// for people and monitoring; `.SYSTEM.ENTITY` follows. Default `alluvium`.
    #[serde(default = "default_group")]
    pub group: String,
    /// How long an answer may take, 1 to 600 seconds. Default 30.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: u64,
}

/// The engine that keeps the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Kafka, or what speaks its protocol.
    Kafka,
    /// NATS with JetStream.
    Nats,
}

/// Which messages make an entity, and what they are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageEntity {
    /// For Kafka: the topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// For NATS: the stream.
    #[serde(default)]
    pub stream: Option<String>,
    /// For NATS: the subjects of the stream that are read, with `*` and `>`. Default: all.
    #[serde(default)]
    pub subject: Option<String>,
    /// What the messages are. Default `auto`.
    #[serde(default)]
    pub format: Format,
    /// Where the parts of a change stand in messages of another shape, as in `publish --map`:
    /// `op=op,sequence=seq,key=after.id,row=after`. With format `debezium`: where the sequence and
    /// the key stand in its event, `sequence=source.ts_ms+source.lsn`.
    #[serde(default, deserialize_with = "mapping")]
    #[schemars(with = "Option<String>")]
    pub map: Option<Mapping>,
    /// Where the first run begins. Default `earliest`.
    #[serde(default)]
    pub start: Start,
    /// What becomes of it when messages were removed before they were read. Default `stop`.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// Messages per page, 1 to 1000000. Default 10000.
    #[serde(default = "default_records")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub page_messages: u64,
    /// Bytes per page; a page has one message at least. Default 16777216 (16 MiB).
    #[serde(default = "default_bytes")]
    #[schemars(range(min = 1))]
    pub page_bytes: u64,
    /// How large a message may be. Of a larger one only its place goes on, to quarantine; so it
    /// does where the bus takes no message of its size. Default 8388608 (8 MiB).
    #[serde(default = "default_message")]
    #[schemars(range(min = 1))]
    pub max_message_bytes: u64,
    /// How long a run waits for messages where there are none, 0 to 10 seconds, shared by the
    /// entities of the system. Default 2.
    #[serde(default = "default_wait")]
    #[schemars(range(max = 10))]
    pub wait_seconds: u64,
}

/// What messages are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Told of each message: what Alluvium published by its headers, Debezium's envelope by its
    /// members, all else is a row.
    #[default]
    Auto,
    /// Debezium's events, with and without their schema.
    Debezium,
    /// Rows, an upsert each; a message without a value deletes the row of its key.
    Plain,
}

/// Where the first run begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the first message that is still there.
    #[default]
    Earliest,
    /// After the last message that is there.
    Latest,
}

/// What becomes of an entity when messages were removed before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// Its runs fail, and say how much was lost, until somebody decides.
    #[default]
    Stop,
    /// It goes on with the first message that is still there; the loss is logged and counted in the
    /// cursor.
    Continue,
}

fn mapping<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mapping>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

fn default_group() -> String {
    "alluvium".to_owned()
}

fn default_timeout() -> u64 {
    30
}

fn default_records() -> u64 {
    10_000
}

fn default_bytes() -> u64 {
    16 << 20
}

fn default_message() -> u64 {
    8 << 20
}

fn default_wait() -> u64 {
    2
}
