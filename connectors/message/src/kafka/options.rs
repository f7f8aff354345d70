//! The properties of the consumer: what must hold, and what the settings may add.

use std::time::Duration;

use alluvium_model::SourceError;
use rdkafka::ClientConfig;

use crate::settings::MessageConnection;

/// Properties that settings may not set, and why.
const OURS: [(&str, &str); 16] = [
    ("bootstrap.servers", "it stands in `servers`"),
    ("metadata.broker.list", "it stands in `servers`"),
    ("group.id", "it stands in `group`"),
    ("group.instance.id", "partitions are assigned, not balanced"),
    ("group.protocol", "partitions are assigned, not balanced"),
    ("auto.offset.reset", "a lost offset must be told, not skipped"),
    ("enable.auto.commit", "progress stands in the cursor"),
    ("auto.commit.enable", "progress stands in the cursor"),
    ("enable.auto.offset.store", "progress stands in the cursor"),
    ("isolation.level", "what a transaction took back is no change"),
    ("enable.partition.eof", "the end of a partition must be known"),
    ("allow.auto.create.topics", "a source is never modified"),
    ("client.rack", "a follower may end before its topic does"),
    ("statistics.interval.ms", "nobody reads them, and they would pile up"),
    ("plugin.library.paths", "no foreign code is loaded"),
    ("debug", "it would show what must not be shown"),
];

/// The configuration of all consumers of a connection.
pub(super) fn config(
    connection: &MessageConnection,
    timeout: Duration,
) -> Result<ClientConfig, SourceError> {
    let mut config = ClientConfig::new();
    // Bounds what is read ahead for an entity; the settings may choose others.
    config.set("queued.max.messages.kbytes", "16384").set("client.id", "alluvium");
    for (name, value) in &connection.options {
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
            return Err(misfit(name, &format!("may not be set: {why}")));
        }
        if name.starts_with("test.") {
            return Err(misfit(name, "may not be set: it is for tests of librdkafka"));
        }
        config.set(name, value.expose());
    }
    let millis = timeout.as_millis().to_string();
    config
        .set("bootstrap.servers", connection.servers.join(","))
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("socket.timeout.ms", millis.as_str())
        .set("socket.connection.setup.timeout.ms", millis.as_str());
    check(&config)?;
    Ok(config)
}

/// What librdkafka does not take is told by name: its own words would repeat the value.
fn check(config: &ClientConfig) -> Result<(), SourceError> {
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => Err(super::refusal::of_config(&error)),
    }
}

fn misfit(name: &str, what: &str) -> SourceError {
    SourceError::Misconfigured(format!("option `{name}` of the connection {what}"))
}

#[cfg(test)]
mod tests {
    use alluvium_model::Secret;
    use serde_json::json;

    use super::*;

    fn error(name: &str, value: &str) -> String {
        let mut connection: MessageConnection =
            serde_json::from_value(json!({"engine": "kafka", "servers": ["localhost:9"]})).unwrap();
        connection.options.insert(name.to_owned(), Secret::new(value));
        config(&connection, Duration::from_secs(1)).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_would_break_a_guarantee_is_refused_by_name() {
        for (name, _) in OURS {
            assert!(error(name, "true").contains(&format!("option `{name}`")), "{name}");
        }
        assert!(error("test.mock.num.brokers", "3").contains("tests"));
    }

    #[test]
    fn only_what_is_committed_is_read_and_a_hole_is_told() {
        let connection: MessageConnection =
            serde_json::from_value(json!({"engine": "kafka", "servers": ["localhost:9"]})).unwrap();
        let config = config(&connection, Duration::from_secs(1)).unwrap();
        for (name, value) in [
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("allow.auto.create.topics", "false"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn what_librdkafka_does_not_take_is_named_without_its_value() {
        for name in ["sasl.pasword", "security.protocol"] {
            let text = error(name, "hunter2");
            assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
        }
    }
}
