//! What the Kafka bus is told: where the cluster is, how to log in, and its limits.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::{BusError, Secret};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// Room for the headers of the largest message, and for what Kafka adds to a batch.
const OVERHEAD_BYTES: usize = 64 << 10;
/// A transaction that its producer has left is rolled back by the broker after so long.
const TRANSACTION: Duration = Duration::from_secs(60);

/// What a reader may fetch ahead that is the only one, in bytes.
pub(super) const ALONE: usize = 16 << 20;
/// What each may, though there are many.
pub(super) const LEAST: usize = 256 << 10;

/// Options of librdkafka on which a promise of the bus rests, and how it sets them.
const OURS: [(&str, &str); 21] = [
    ("acks", "all in-sync replicas"),
    ("allow.auto.create.topics", "false: topics are created with what they need"),
    ("auto.offset.reset", "error: a hole is told and never skipped"),
    ("delivery.timeout.ms", "the time the bus has for a page"),
    ("enable.auto.commit", "false: the lake knows how far the layers are"),
    ("enable.auto.offset.store", "false: the lake knows how far the layers are"),
    ("enable.idempotence", "true: no message stands twice"),
    ("enable.partition.eof", "true"),
    ("group.id", "the prefix and the layer"),
    ("group.instance.id", "none"),
    ("isolation.level", "read_committed"),
    ("message.max.bytes", "as `max_message_bytes` asks for"),
    ("message.timeout.ms", "the time the bus has for a page"),
    ("request.required.acks", "all in-sync replicas"),
    ("transaction.timeout.ms", "one minute"),
    ("transactional.id", "the prefix and the entity"),
    ("bootstrap.servers", "`bootstrap_servers`"),
    ("metadata.broker.list", "`bootstrap_servers`"),
    ("sasl.password", "`password`"),
    ("sasl.username", "`username`"),
    ("test.mock.num.brokers", "none: a mock cluster keeps nothing"),
];

/// Where the cluster is, how to log in, and the limits of the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaSettings {
    /// Brokers to begin with, as `host:port,host:port`.
    pub bootstrap_servers: String,
    /// What the names of all topics, consumer groups and transactional ids begin with.
    pub prefix: String,
    /// How many brokers hold each topic that is created; `None` leaves it to the brokers.
    pub replication: Option<u16>,
    /// The name to log in with, for SASL.
    pub username: Option<String>,
    /// The password to log in with, for SASL.
    pub password: Option<Secret>,
    /// Options of librdkafka, such as `security.protocol`. Those on which a promise of the bus
    /// rests are refused.
    pub options: BTreeMap<String, Secret>,
    /// How long a message is kept once raw has landed it, where the brokers let us delete.
    pub retention_age: Duration,
    /// How many bytes of payload that this process has published may wait for raw, per topic,
    /// before a publisher must wait.
    pub max_unlanded_bytes: u64,
    /// The largest message taken, payload and headers together, in bytes.
    pub max_message_bytes: usize,
    /// How many bytes of audit events are kept; older ones go first.
    pub audit_bytes: u64,
    /// How long audit events are kept.
    pub audit_age: Duration,
    /// How long the brokers may take for a page, or to answer, before the bus counts as not
    /// available.
    pub patience: Duration,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            prefix: "alluvium.".to_owned(),
            replication: None,
            username: None,
            password: None,
            options: BTreeMap::new(),
            retention_age: Duration::from_secs(7 * 24 * 60 * 60),
            max_unlanded_bytes: 256 << 20,
            max_message_bytes: 8 << 20,
            audit_bytes: 256 << 20,
            audit_age: Duration::from_secs(90 * 24 * 60 * 60),
            patience: Duration::from_secs(30),
        }
    }
}

impl KafkaSettings {
    /// [`BusError::Refused`] names an option that the bus sets itself, or a prefix that is no part
    /// of a topic's name.
    pub(super) fn check(&self) -> Result<(), BusError> {
        for name in self.options.keys() {
            if let Some((_, ours)) = OURS.iter().find(|(own, _)| own == name) {
                return Err(BusError::Refused(format!(
                    "option `{name}` of Kafka is not to be set: the bus sets it ({ours}); leave \
                     it out of `options`"
                )));
            }
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if self.prefix.len() > 100 || !self.prefix.chars().all(fits) {
            return Err(BusError::Refused(format!(
                "`{}` cannot begin the name of a topic: use at most 100 of a-z, A-Z, 0-9, ., - \
                 and _",
                self.prefix
            )));
        }
        Ok(())
    }

    /// The largest batch with one message in it.
    pub(super) fn max_batch_bytes(&self) -> usize {
        self.max_message_bytes + OVERHEAD_BYTES
    }

    /// A client that neither publishes nor reads.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.client();
        // Nobody would take them up.
        config.set("statistics.interval.ms", "0");
        config
    }

    /// A client that publishes pushed pages: no message twice, each in the order of its page.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        if !self.options.contains_key("compression.type") {
            config.set("compression.type", "lz4");
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", self.max_batch_bytes().to_string())
            .set("message.timeout.ms", self.patience.as_millis().to_string());
        config
    }

    /// A client that publishes the polled pages of one entity, and of whom there is one at a time.
    pub(super) fn transactions(&self, id: &str) -> ClientConfig {
        let mut config = self.producer();
        let patience = self.patience.min(TRANSACTION);
        config
            .set("transactional.id", id)
            .set("message.timeout.ms", patience.as_millis().to_string())
            .set("transaction.timeout.ms", TRANSACTION.as_millis().to_string());
        config
    }

    /// A client that reads what is committed, and tells of every hole. It asks for more while what
    /// it has fetched ahead is less than `prefetch` bytes.
    pub(super) fn consumer(&self, group: &str, prefetch: usize) -> ClientConfig {
        let mut config = self.client();
        let largest = self.max_batch_bytes();
        for (name, value) in [
            // A batch that is larger comes all the same, alone.
            ("fetch.message.max.bytes", largest.min(1 << 20)),
            ("fetch.max.bytes", largest.max(16 << 20)),
            ("receive.message.max.bytes", largest.max(16 << 20) + (1 << 20)),
            ("queued.max.messages.kbytes", (prefetch >> 10).max(1)),
        ] {
            if !self.options.contains_key(name) {
                config.set(name, value.to_string());
            }
        }
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true");
        config
    }

    /// What must not be shown, wherever a text may hold it.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let hidden = |name: &str| {
            ["password", "secret", "token", "key", "jaas", "config"]
                .iter()
                .any(|w| name.contains(w))
        };
        let options = self.options.iter().filter(|(name, _)| hidden(name)).map(|(_, v)| v);
        options.chain(&self.password).cloned().collect()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "alluvium")
            .set("statistics.interval.ms", "60000")
            .set("socket.timeout.ms", "15000")
            .set("reconnect.backoff.max.ms", "2000");
        for (name, value) in &self.options {
            config.set(name, value.expose());
        }
        let wordy = self.options.contains_key("debug");
        config.set_log_level(if wordy { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        if let Some(username) = &self.username {
            config.set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password.expose());
        }
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("allow.auto.create.topics", "false");
        config
    }
}
