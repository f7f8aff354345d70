//! How our streams are made, and what is said where one is otherwise.
//!
//! A topic's stream loses nothing by itself: no age, no count, and new messages are refused where
//! it is full. Its description says that it is ours; its time of creation, which the server gives
//! and nobody copies, is the topic's epoch.

use std::time::Duration;

use alluvium_model::{BusError, EntityId, Epoch};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use super::api;
use super::names::Names;
use super::settings::NatsSettings;

/// What a message's id is remembered for; an attempt that is repeated later is recognised by the
/// messages themselves.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The server says so where a stream's name or subject is another's.
const TAKEN: [ErrorCode; 2] = [ErrorCode::STREAM_NAME_EXIST, ErrorCode::STREAM_SUBJECT_OVERLAP];
/// So often it is tried, and after so long again.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(100);

/// By what a stream loses messages that nobody landed, if its limits are not as we set them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Messages older than this go.
    pub(super) max_age: Option<Duration>,
    /// Beyond so many stored bytes the oldest go.
    pub(super) max_bytes: Option<u64>,
    /// Beyond so many messages the oldest go.
    pub(super) max_messages: Option<u64>,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        let drops_old = config.discard == DiscardPolicy::Old;
        let limit = |value: i64| u64::try_from(value).ok().filter(|n| *n > 0 && drops_old);
        Self {
            max_age: Some(config.max_age).filter(|age| !age.is_zero()),
            max_bytes: limit(config.max_bytes),
            max_messages: limit(config.max_messages)
                .or_else(|| u64::try_from(config.max_messages_per_subject).ok())
                .filter(|n| *n > 0),
        }
    }

    pub(super) fn lose_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How long it is until the oldest message that waits for raw goes, if it goes on as since it
    /// came: `waiting` messages of `waiting_bytes` came in `waited`.
    pub(super) fn time_to_loss(
        &self,
        waiting: u64,
        waiting_bytes: u64,
        waited: Duration,
    ) -> Option<Duration> {
        if waiting == 0 {
            return None;
        }
        let by_age = self.max_age.map(|age| age.saturating_sub(waited));
        let by_growth = |limit: Option<u64>, now: u64| {
            let left = limit?.saturating_sub(now) as f64;
            Duration::try_from_secs_f64(waited.as_secs_f64() * left / now.max(1) as f64).ok()
        };
        let ways = [
            by_age,
            by_growth(self.max_bytes, waiting_bytes),
            by_growth(self.max_messages, waiting),
        ];
        ways.into_iter().flatten().min()
    }
}

/// The epoch of the topic that stands in this stream.
pub(super) fn epoch(info: &Info) -> Epoch {
    let ms = info.created.unix_timestamp_nanos() / 1_000_000;
    Epoch(u64::try_from(ms).unwrap_or(0))
}

/// The stream of a topic, made if it is not there, and checked.
pub(super) async fn topic(
    js: &Context,
    names: &Names,
    settings: &NatsSettings,
    topic: &EntityId,
) -> Result<Info, BusError> {
    let config = topic_config(names, settings, topic);
    let info = ours(js, &config).await?;
    check_topic(&info)?;
    if info.config.max_bytes == config.max_bytes {
        return Ok(info);
    }
    tracing::info!(%topic, bytes = config.max_bytes, "the bound of a topic's stream is set anew");
    api::update(js, &Config { max_bytes: config.max_bytes, ..info.config }).await
}

/// The stream of a topic, if it is there.
pub(super) async fn existing_topic(
    js: &Context,
    names: &Names,
    settings: &NatsSettings,
    topic: &EntityId,
) -> Result<Option<Info>, BusError> {
    let config = topic_config(names, settings, topic);
    let Some(info) = api::stream(js, &config.name).await? else { return Ok(None) };
    check_ours(&info, &config)?;
    check_topic(&info)?;
    Ok(Some(info))
}

fn topic_config(names: &Names, settings: &NatsSettings, topic: &EntityId) -> Config {
    let cap = settings.max_stream_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    Config {
        max_bytes: cap.unwrap_or(-1),
        discard: DiscardPolicy::New,
        description: Some(format!("alluvium: changes of {topic}")),
        ..bare(names.stream(topic), names.subject(topic), settings)
    }
}

/// The stream of the state records: the last one of each subject.
pub(super) async fn state(
    js: &Context,
    names: &Names,
    settings: &NatsSettings,
) -> Result<(), BusError> {
    let config = Config {
        max_messages_per_subject: 1,
        description: Some("alluvium: cursors, and what raw has landed".to_owned()),
        ..bare(names.state_stream(), names.all_state(), settings)
    };
    let info = ours(js, &config).await?;
    let kept = info.config.max_messages_per_subject;
    let others = Config { max_messages_per_subject: -1, ..info.config };
    if !Limits::of(&others).lose_nothing() || kept != 1 {
        return Err(BusError::Refused(format!(
            "stream {} must keep the last message of each subject and drop nothing else; take away \
             its max age, max bytes and max messages",
            config.name
        )));
    }
    Ok(())
}

/// The stream of the audit events.
pub(super) async fn audit(
    js: &Context,
    names: &Names,
    settings: &NatsSettings,
) -> Result<(), BusError> {
    let config = Config {
        max_bytes: i64::try_from(settings.audit_bytes).unwrap_or(i64::MAX),
        max_age: settings.audit_age,
        // The server takes no window that is longer than the age.
        duplicate_window: DUPLICATE_WINDOW.min(settings.audit_age),
        description: Some("alluvium: audit events".to_owned()),
        ..bare(names.audit_stream(), names.all_audit(), settings)
    };
    let info = ours(js, &config).await?;
    let (bytes, age) = (info.config.max_bytes, info.config.max_age);
    if (bytes, age) != (config.max_bytes, config.max_age) {
        let Config { max_bytes, max_age, duplicate_window, .. } = config;
        api::update(js, &Config { max_bytes, max_age, duplicate_window, ..info.config }).await?;
    }
    Ok(())
}

fn bare(name: String, subject: String, settings: &NatsSettings) -> Config {
    Config {
        name,
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    }
}

/// The stream as it is, made if it is not there.
async fn ours(js: &Context, config: &Config) -> Result<Info, BusError> {
    if let Some(info) = api::stream(js, &config.name).await? {
        check_ours(&info, config)?;
        return Ok(info);
    }
    let mut left = TRIES;
    loop {
        let taken = match api::create(js, config).await {
            Ok(info) => {
                tracing::info!(stream = config.name, "a stream was made");
                return Ok(info);
            }
            Err(failure) if TAKEN.into_iter().any(|code| failure.is(code)) => failure,
            Err(failure) => return Err(failure.into()),
        };
        // Somebody else may be faster: of who makes the same one at the same time the server knows
        // the subjects before it tells of the stream, and forgets them if that fails.
        if let Some(info) = api::stream(js, &config.name).await? {
            check_ours(&info, config)?;
            return Ok(info);
        }
        left -= 1;
        if left == 0 {
            return Err(taken.into());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn check_ours(info: &Info, config: &Config) -> Result<(), BusError> {
    let (found, name) = (&info.config, &config.name);
    let refused = |what: &str| Err(BusError::Refused(format!("stream {name} {what}")));
    if found.description != config.description {
        return refused(
            "exists and was not made by Alluvium: its description says otherwise. Delete it, or \
             choose another bus.nats.prefix",
        );
    }
    if found.subjects != config.subjects {
        return refused(&format!("must have the one subject {}", config.subjects.concat()));
    }
    if found.mirror.is_some() || found.sources.as_ref().is_some_and(|s| !s.is_empty()) {
        return refused("must have neither mirror nor sources");
    }
    if found.retention != RetentionPolicy::Limits || found.sealed || found.no_ack {
        return refused("must have retention `limits`, and be neither sealed nor without acks");
    }
    if found.num_replicas != config.num_replicas {
        tracing::warn!(
            stream = name,
            found = found.num_replicas,
            wanted = config.num_replicas,
            "a stream has another number of replicas than bus.nats.replicas says; \
             `nats stream edit` changes it"
        );
    }
    Ok(())
}

/// Warns of limits by which messages are lost.
pub(super) fn check_topic(info: &Info) -> Result<(), BusError> {
    let limits = Limits::of(&info.config);
    if !limits.lose_nothing() {
        tracing::warn!(
            stream = info.config.name,
            ?limits,
            "the limits of this stream drop messages that raw has not landed: take away its max age \
             and max messages, and let it discard new ones. alluvium_bus_time_to_loss_seconds tells \
             how long it is until then"
        );
    }
    if info.config.storage != StorageType::File {
        tracing::warn!(stream = info.config.name, "this stream is kept in memory only");
    }
    if info.config.deny_purge {
        tracing::warn!(
            stream = info.config.name,
            "this stream denies purging: what raw has landed stays, and it grows without end"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_as_we_make_it_loses_nothing_and_any_other_is_known_by_its_limits() {
        let topic = "shop.orders".parse().unwrap();
        let settings = NatsSettings { max_stream_bytes: Some(1), ..NatsSettings::default() };
        let made = topic_config(&Names::new("alluvium"), &settings, &topic);
        assert!(Limits::of(&made).lose_nothing());
        let day = Duration::from_secs(86_400);
        for (other, expected) in [
            (
                Config { max_age: day, ..made.clone() },
                Limits { max_age: Some(day), ..Limits::default() },
            ),
            (
                Config { discard: DiscardPolicy::Old, max_bytes: 7, ..made.clone() },
                Limits { max_bytes: Some(7), ..Limits::default() },
            ),
            (
                Config { max_messages_per_subject: 3, ..made.clone() },
                Limits { max_messages: Some(3), ..Limits::default() },
            ),
        ] {
            assert_eq!(Limits::of(&other), expected);
        }
    }

    #[test]
    fn the_time_to_loss_is_that_of_the_limit_that_comes_first() {
        let minute = Duration::from_secs(60);
        let none = Limits::default();
        assert_eq!(none.time_to_loss(10, 1000, minute), None);
        let both = Limits { max_age: Some(10 * minute), max_bytes: Some(3000), max_messages: None };
        assert_eq!(both.time_to_loss(0, 0, Duration::ZERO), None, "nothing waits");
        assert_eq!(both.time_to_loss(10, 1000, minute), Some(2 * minute), "by growth");
        assert_eq!(both.time_to_loss(10, 100, 8 * minute), Some(2 * minute), "by age");
        assert_eq!(both.time_to_loss(10, 5000, minute), Some(Duration::ZERO), "at any moment");
    }
}
