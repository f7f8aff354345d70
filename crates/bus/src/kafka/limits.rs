//! What the brokers do with a topic by themselves, and what of that endangers what stands there.

use std::time::Duration;

use alluvium_model::BusError;

use super::admin::Found;
use super::names::{Configs, REPLICATED, brief, in_sync};
use super::settings::KafkaSettings;

/// A compacted topic whose segments are larger or older than this grows long before it is compacted.
const LARGE_SEGMENT: u64 = 128 << 20;
const OLD_SEGMENT: Duration = Duration::from_secs(24 * 60 * 60);

const ONE_BROKER: &str = "what is acknowledged may be lost with one broker";
const LATE: &str = "the topic is compacted so late that starting may take long";

/// What the brokers do with a topic, as far as they tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// How long they keep a message; `None` for ever.
    pub(super) retention: Option<Duration>,
    /// How many bytes they keep; `None` all.
    pub(super) retention_bytes: Option<u64>,
    /// Whether they keep only the last message of each key.
    pub(super) compacted: bool,
    /// The largest batch that they take.
    pub(super) max_batch_bytes: Option<usize>,
    /// How many brokers have what they acknowledge.
    in_sync: Option<u16>,
    /// Before a segment is as large or as old, it is not compacted.
    segment_bytes: Option<u64>,
    segment_age: Option<Duration>,
}

impl Limits {
    /// Reads what a topic's configuration says.
    pub(super) fn read(config: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| config(name).and_then(|value| value.parse::<u64>().ok());
        let policy = config("cleanup.policy").unwrap_or_default();
        let deletes = policy.is_empty() || policy.contains("delete");
        Self {
            // -1, for ever, is no such number.
            retention: number("retention.ms").filter(|_| deletes).map(Duration::from_millis),
            retention_bytes: number("retention.bytes").filter(|_| deletes),
            compacted: policy.contains("compact"),
            max_batch_bytes: number("max.message.bytes").and_then(|n| usize::try_from(n).ok()),
            in_sync: number(in_sync().0).and_then(|n| u16::try_from(n).ok()),
            segment_bytes: number("segment.bytes"),
            segment_age: number("segment.ms").map(Duration::from_millis),
        }
    }

    /// Refuses the topic of an entity that cannot keep what it must, and warns of what may be lost.
    pub(super) fn check(
        &self,
        settings: &KafkaSettings,
        topic: &str,
        found: Found,
    ) -> Result<(), BusError> {
        if self.compacted {
            return Err(BusError::Refused(format!(
                "topic {topic} is compacted, so that messages go missing; set its cleanup.policy \
                 to delete"
            )));
        }
        if let Some(age) = self.retention {
            let hours = age.as_secs() / 3600;
            tracing::warn!(
                topic,
                hours,
                "the brokers remove messages of this age, also \
                if raw has not landed them; set the topic's retention.ms to -1"
            );
        }
        if let Some(bytes) = self.retention_bytes {
            tracing::warn!(
                topic,
                bytes,
                "the brokers keep so many bytes, and remove what \
                raw has not landed beyond; set the topic's retention.bytes to -1"
            );
        }
        warn(&self.to_be_durable(found), settings, topic, ONE_BROKER);
        Ok(())
    }

    /// Warns of what endangers the topic of epochs and cursor records.
    pub(super) fn check_cursors(&self, settings: &KafkaSettings, topic: &str, found: Found) {
        if self.retention.is_some() || self.retention_bytes.is_some() {
            let policy = vec![("cleanup.policy", "compact".to_owned())];
            warn(&policy, settings, topic, "the brokers remove epochs and cursor records");
        }
        warn(&self.to_be_durable(found), settings, topic, ONE_BROKER);
        warn(&self.to_be_brief(), settings, topic, LATE);
    }

    /// What is to be set, so that two brokers have what is acknowledged.
    fn to_be_durable(&self, found: Found) -> Configs {
        let one_has_it = self.in_sync.is_some_and(|brokers| brokers < 2);
        let could_be_two = found.replicas >= usize::from(REPLICATED);
        Vec::from_iter((one_has_it && could_be_two).then(in_sync))
    }

    /// What is to be set, so that a compacted topic stays short.
    fn to_be_brief(&self) -> Configs {
        let large = self.segment_bytes.is_some_and(|bytes| bytes > LARGE_SEGMENT);
        let old = self.segment_age.is_some_and(|age| age > OLD_SEGMENT);
        if large || old { brief() } else { Vec::new() }
    }
}

fn warn(missing: &Configs, settings: &KafkaSettings, topic: &str, why: &str) {
    if !missing.is_empty() {
        let command = settings.alter_command(topic, missing);
        tracing::warn!(topic, command, "{why}; the command mends it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(configs: Configs) -> Limits {
        Limits::read(|name| configs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()))
    }

    fn on(brokers: usize) -> Found {
        Found { leader: 1, replicas: brokers }
    }

    #[test]
    fn a_topic_that_is_kept_for_ever_has_no_limits() {
        let limits = of(KafkaSettings::default().topic_configs());
        assert_eq!((limits.retention, limits.retention_bytes), (None, None));
        assert!(!limits.compacted);
    }

    #[test]
    fn what_a_topic_loses_by_itself_is_read_from_its_configuration() {
        let told = [
            ("retention.ms", "604800000"),
            ("retention.bytes", "-1"),
            ("cleanup.policy", "delete"),
        ];
        let limits = of(told.map(|(name, value)| (name, value.to_owned())).into());
        assert_eq!(limits.retention, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(limits.retention_bytes, None);
    }

    #[test]
    fn on_three_brokers_two_are_to_have_what_is_acknowledged() {
        let settings = KafkaSettings { replication: Some(3), ..KafkaSettings::default() };
        for configs in [settings.topic_configs(), settings.cursors_configs()] {
            assert_eq!(of(configs).to_be_durable(on(3)), []);
        }
        let one = || of(vec![("min.insync.replicas", "1".to_owned())]);
        assert_eq!(one().to_be_durable(on(3)), [in_sync()]);
        // One broker less, and nobody could publish any more.
        assert_eq!(one().to_be_durable(on(2)), []);
        let two = KafkaSettings { replication: Some(2), ..settings };
        assert!(!two.topic_configs().contains(&in_sync()));
    }

    #[test]
    fn the_topic_of_cursors_is_to_be_compacted_early() {
        assert_eq!(of(KafkaSettings::default().cursors_configs()).to_be_brief(), []);
        let defaults = [("segment.bytes", "1073741824"), ("segment.ms", "604800000")];
        let limits = of(defaults.map(|(name, value)| (name, value.to_owned())).into());
        assert_eq!(limits.to_be_brief(), brief());
        let command = KafkaSettings::default().alter_command("t", &vec![in_sync()]);
        assert!(command.ends_with("--entity-name t --add-config min.insync.replicas=2"));
    }
}
