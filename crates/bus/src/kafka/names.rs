//! What topics, consumer groups and transactional ids are called, and how a topic is made by hand.

use alluvium_model::{EntityId, Layer};

use super::settings::KafkaSettings;

/// How a topic is configured.
pub(super) type Configs = Vec<(&'static str, String)>;

impl KafkaSettings {
    /// The topic of an entity.
    pub(super) fn topic(&self, entity: &EntityId) -> String {
        format!("{}{entity}", self.prefix)
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
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", "-1".to_owned()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", self.max_batch_bytes().to_string()),
        ]
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

    /// What the topic of epochs and cursor records needs: the last of each is kept.
    pub(super) fn cursors_configs(&self) -> Configs {
        vec![("cleanup.policy", "compact".to_owned())]
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
