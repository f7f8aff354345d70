//! Topics as the brokers manage them: whether they are there, made, limited and shortened.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::BusError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::Context;
use super::limits::Limits;
use super::look::{is_passing, place};
use super::mishap::{code, is_unknown, stopped, told};
use super::names::Configs;
use super::settings::KafkaSettings;

/// How often it is asked whether a topic that was just made is there.
const AGAIN: Duration = Duration::from_millis(100);
/// So long the first attempt to reach the brokers waits; each waits longer than the one before.
const FIRST_STEP: Duration = Duration::from_millis(250);

/// A topic that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The broker that leads it.
    pub(super) leader: i32,
    /// How many brokers hold it.
    pub(super) replicas: usize,
}

pub(super) struct Admin {
    client: Arc<AdminClient<Context>>,
    settings: KafkaSettings,
}

impl Admin {
    pub(super) fn new(settings: &KafkaSettings, context: Context) -> Result<Self, BusError> {
        let client = settings.admin().create_with_context(context.clone());
        let client = client.map_err(|e| context.refuses(&e))?;
        Ok(Self { client: Arc::new(client), settings: settings.clone() })
    }

    /// Waits until a broker answers. It is asked in steps: whoever stops waiting leaves no thread behind
    /// that asks for as long as the bus has patience.
    pub(super) async fn reach(&self, topic: &str) -> Result<(), BusError> {
        let (mut step, mut left) = (FIRST_STEP, self.settings.patience);
        loop {
            let (client, name, wait) = (Arc::clone(&self.client), topic.to_owned(), step.min(left));
            let asked = move || client.inner().fetch_metadata(Some(&name), wait).map(drop);
            match tokio::task::spawn_blocking(asked).await.map_err(|e| stopped(&e))? {
                Err(error) if is_passing(&error) && wait < left => {}
                answered => {
                    return answered.map_err(|e| told(&format!("asking for {topic}"), &e));
                }
            }
            (step, left) = (step * 2, left - wait);
        }
    }

    /// Sees to it that a topic of one partition is there. The error says the command that makes it,
    /// where the brokers do not let us.
    pub(super) async fn ensure(&self, topic: &str, configs: &Configs) -> Result<Found, BusError> {
        if let Some(found) = self.find(topic).await? {
            return Ok(found);
        }
        self.create(topic, configs).await?;
        let there = async {
            loop {
                if let Some(found) = self.find(topic).await? {
                    return Ok(found);
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(self.settings.patience, there).await.unwrap_or_else(|_| {
            Err(BusError::Unavailable(format!("topic {topic} was made, but cannot be seen yet")))
        })
    }

    /// What the brokers do with the topic, as the one that leads it knows; `None` where they do not
    /// tell.
    pub(super) async fn limits(&self, topic: &str, found: Found) -> Option<Limits> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let options = self.options().broker_id(found.leader);
        let told = match self.client.describe_configs(&asked, &options).await {
            Ok(mut told) => told.pop()?.map_err(KafkaError::AdminOp),
            Err(error) => Err(error),
        };
        match told {
            Ok(topic) => Some(Limits::read(|name| topic.get(name)?.value.clone())),
            Err(error) => {
                tracing::debug!(topic, %error, "the brokers do not tell how a topic is configured");
                None
            }
        }
    }

    /// Removes what stands before Kafka's offset `before`. `false` where the brokers never do.
    pub(super) async fn shorten(&self, topic: &str, before: i64) -> Result<bool, BusError> {
        match self.client.delete_records(&place(topic, before)?, &self.options()).await {
            Ok(list) => match list.elements().into_iter().find_map(|e| e.error().err()) {
                None => Ok(true),
                Some(error) => Err(told(&format!("shortening {topic}"), &error)),
            },
            Err(error) if is_denied(&error) => Ok(false),
            Err(error) => Err(told(&format!("shortening {topic}"), &error)),
        }
    }

    /// The names of all topics that the brokers let us see.
    pub(super) async fn names(&self) -> Result<Vec<String>, BusError> {
        let (client, patience) = (Arc::clone(&self.client), self.settings.patience);
        let asked = tokio::task::spawn_blocking(move || -> Result<Vec<String>, KafkaError> {
            let metadata = client.inner().fetch_metadata(None, patience)?;
            Ok(metadata.topics().iter().map(|found| found.name().to_owned()).collect())
        });
        let asked = asked.await.map_err(|e| stopped(&e))?;
        asked.map_err(|e| told("asking for all topics", &e))
    }

    /// A topic of one partition; `None` if there is no such topic.
    async fn find(&self, topic: &str) -> Result<Option<Found>, BusError> {
        let (client, name) = (Arc::clone(&self.client), topic.to_owned());
        let patience = self.settings.patience;
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client.inner().fetch_metadata(Some(&name), patience)?;
            let found = metadata.topics().iter().find(|found| found.name() == name);
            match found.and_then(|found| found.error()) {
                Some(error) => Err(KafkaError::MetadataFetch(error.into())),
                None => Ok(found.map_or_else(Vec::new, |found| {
                    let partitions = found.partitions().iter();
                    partitions
                        .map(|of| Found { leader: of.leader(), replicas: of.replicas().len() })
                        .collect()
                })),
            }
        });
        match asked.await.map_err(|e| stopped(&e))?.as_deref() {
            Ok([found]) if found.leader >= 0 => Ok(Some(*found)),
            // Just made: it has no leader yet.
            Ok([] | [_]) => Ok(None),
            Ok(partitions) => Err(BusError::Refused(format!(
                "topic {topic} has {} partitions; the topic of an entity has one",
                partitions.len()
            ))),
            Err(error) if is_unknown(error) => Ok(None),
            Err(error) if code(error) == Some(Code::LeaderNotAvailable) => Ok(None),
            Err(error) => Err(told(&format!("asking for {topic}"), error)),
        }
    }

    async fn create(&self, topic: &str, configs: &Configs) -> Result<(), BusError> {
        let replication = self.settings.replication.map_or(-1, i32::from);
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replication));
        let new = configs.iter().fold(new, |new, (name, value)| new.set(name, value));
        let made = match self.client.create_topics([&new], &self.options()).await {
            Ok(made) => made.into_iter().find_map(Result::err).map(|(_, code)| code),
            Err(error) => match code(&error) {
                Some(code) => Some(code),
                None => return Err(told(&format!("making {topic}"), &error)),
            },
        };
        match made.filter(|code| *code != Code::TopicAlreadyExists) {
            Some(code) => Err(not_made(&self.settings, topic, configs, code)),
            None => {
                tracing::info!(topic, "made a topic");
                Ok(())
            }
        }
    }

    fn options(&self) -> AdminOptions {
        let patience = Some(self.settings.patience);
        AdminOptions::new().request_timeout(patience).operation_timeout(patience)
    }
}

/// Why a topic is not there that we wanted to make, and the command that makes it.
fn not_made(settings: &KafkaSettings, topic: &str, configs: &Configs, code: Code) -> BusError {
    let why = format!(
        "topic {topic} is not there, and the brokers do not let us make it ({code}); make it \
         with: {}",
        settings.create_command(topic, configs)
    );
    match is_brief(code) {
        true => BusError::Unavailable(why),
        false => BusError::Refused(why),
    }
}

/// Whether the brokers do not do this for us, however often they are asked.
fn is_denied(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            Code::UnsupportedFeature
                | Code::UnsupportedVersion
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::PolicyViolation
        )
    )
}

/// Whether it may be otherwise soon.
fn is_brief(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NotController
            | Code::LeaderNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "make it with: kafka-topics.sh --bootstrap-server localhost:9092 \
                           --create --topic alluvium.shop.orders --partitions 1";

    fn of(code: Code) -> BusError {
        let settings = KafkaSettings::default();
        not_made(&settings, "alluvium.shop.orders", &settings.topic_configs(), code)
    }

    #[test]
    fn who_may_make_no_topics_is_refused_with_the_command_that_makes_this_one() {
        for code in [
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::PolicyViolation,
            Code::InvalidReplicationFactor,
        ] {
            let error = of(code);
            assert!(matches!(&error, BusError::Refused(why) if why.contains(COMMAND)), "{error:?}");
        }
    }

    #[test]
    fn brokers_that_cannot_make_one_now_are_asked_again() {
        for code in [Code::RequestTimedOut, Code::NotController, Code::BrokerTransportFailure] {
            let error = of(code);
            assert!(
                matches!(&error, BusError::Unavailable(why) if why.contains(COMMAND)),
                "{error:?}"
            );
        }
    }
}
