//! The settings of the Kafka bus, and its secrets resolved.

use std::collections::BTreeMap;

use alluvium_model::Secret;
use alluvium_model::quantity::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::error::ConfigError;

/// The bus on a cluster of Kafka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaBusSettings {
    /// Brokers to begin with, as `host:port,host:port`.
    pub bootstrap_servers: String,
    /// What the names of topics, consumer groups and transactional ids begin with.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{0,100}$"))]
    pub prefix: String,
    /// So many brokers hold each topic that is created; 0: as the brokers have it.
    #[schemars(range(max = 32))]
    pub replication: u16,
    /// The name to log in with, for SASL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password to log in with, for SASL: `${env:NAME}` or `${file:/path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub password: Option<Secret>,
    /// Options of librdkafka, such as `"security.protocol" = "sasl_ssl"`; may refer to secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Secret>,
    /// So long a topic's messages are kept once raw has landed them, where the brokers let us
    /// delete.
    pub retention_time: Period,
    /// So much of what this process published may wait for raw, per topic; then publishers wait.
    pub max_unlanded_bytes: ByteSize,
    /// A larger message is refused.
    pub max_message_bytes: ByteSize,
    /// So much is kept of the audit events.
    pub audit_bytes: ByteSize,
    /// So long audit events are kept.
    pub audit_time: Period,
    /// So long the brokers may take for a page or an answer.
    pub timeout: Period,
}

impl Settings {
    /// The settings of the Kafka bus with every reference to a secret replaced. Ask just before
    /// connecting. The error names the references that cannot be resolved.
    pub fn kafka(&self) -> Result<KafkaBusSettings, ConfigError> {
        let mut kafka = self.bus.kafka.clone();
        kafka.password = kafka.password.as_ref().map(|p| self.secret(p)).transpose()?;
        for value in kafka.options.values_mut() {
            *value = self.secret(value)?;
        }
        Ok(kafka)
    }
}
