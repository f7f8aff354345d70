//! What topics, consumer groups and transactional ids are called, and how a topic is made by hand.

use alluvium_model::{EntityId, Layer};

use super::settings::KafkaSettings;

/// How a topic is configured.
pub(super) type Configs = Vec<(&'static str, String)>;

/// From so many brokers that hold a topic, one may be away while two have what is acknowledged.
pub(super) const REPLICATED: u16 = 3;

/// Two brokers have what is acknowledged.
pub(super) fn in_sync() -> (&'static str, String) {
    ("min.insync.replicas", "2".to_owned())
}

/// How a compacted topic stays short.
pub(super) fn brief() -> Configs {
    vec![
        ("segment.bytes", (16 << 20).to_string()),
        ("segment.ms", HOUR_MS.to_string()),
        ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ("delete.retention.ms", HOUR_MS.to_string()),
    ]
}

const HOUR_MS: u32 = 60 * 60 * 1000;

impl KafkaSettings {
    /// The topic of an entity.
    pub(super) fn topic(&self, entity: &EntityId) -> String {
        format!("{}{entity}", self.prefix)
    }

    /// The entity whose topic would be called so.
    pub(super) fn entity(&self, topic: &str) -> Option<EntityId> {
        topic.strip_prefix(&self.prefix)?.parse().ok()
    }

    /// The topic of epochs and cursor records. No entity's topic is called so: theirs have a dot
    /// after the system.
    pub(super) fn cursors(&self) -> String {
        format!("{}cursors", self.prefix)
    }

    /// The topic of the audit events. No entity's topic is called so either.
    pub(super) fn audit(&self) -> String {
        format!("{}audit", self.prefix)
    }

    /// The consumer group in which a layer's progress can be seen.
    pub(super) fn group(&self, layer: Layer) -> String {
        format!("{}{layer}", self.prefix)
    }

    /// The group of readers that commit nothing.
    pub(super) fn lookers(&self) -> String {
        format!("{}look", self.prefix)
    }

    /// What the topic of an entity needs: the brokers remove nothing by themselves, stamp what they
    /// take, and take the largest message.
    pub(super) fn topic_configs(&self) -> Configs {
        self.durable(vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", "-1".to_owned()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", self.max_batch_bytes().to_string()),
        ])
    }

    /// What the topic of the audit events needs: the brokers remove the oldest by themselves.
    pub(super) fn audit_configs(&self) -> Configs {
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", self.audit_age.as_millis().to_string()),
            ("retention.bytes", self.audit_bytes.to_string()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ]
    }

    /// What the topic of epochs and cursor records needs: the last of each is kept. What came before
    /// goes soon, so that who starts has little to read: brokers compact no segment that is still
    /// written to, so that it is to be small and young.
    pub(super) fn cursors_configs(&self) -> Configs {
        let mut configs = vec![("cleanup.policy", "compact".to_owned())];
        configs.extend(brief());
        self.durable(configs)
    }

    /// What is acknowledged is to stand on two brokers, where a topic has three or more.
    fn durable(&self, mut configs: Configs) -> Configs {
        if self.replication.is_some_and(|brokers| brokers >= REPLICATED) {
            configs.push(in_sync());
        }
        configs
    }

    /// The command that changes how a topic is configured.
    pub(super) fn alter_command(&self, topic: &str, configs: &Configs) -> String {
        let of = |(name, value): &(&str, String)| format!("{name}={value}");
        let configs: Vec<String> = configs.iter().map(of).collect();
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name \
             {topic} --add-config {}",
            self.bootstrap_servers,
            configs.join(",")
        )
    }

    /// The command that makes a topic.
    pub(super) fn create_command(&self, topic: &str, configs: &Configs) -> String {
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions 1",
            self.bootstrap_servers
        );
        if let Some(replication) = self.replication {
            command.push_str(&format!(" --replication-factor {replication}"));
        }
        for (name, value) in configs {
            command.push_str(&format!(" --config {name}={value}"));
        }
        command
    }
}
