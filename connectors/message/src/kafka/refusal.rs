//! What Kafka's errors mean. Their texts are made from codes: what librdkafka says beside them may
//! repeat a setting.

use std::sync::{Mutex, PoisonError};

use alluvium_model::SourceError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What a consumer heard beside its answers: a failed log-in is told nowhere else.
#[derive(Default)]
pub(super) struct Heard {
    refused: Mutex<Option<RDKafkaErrorCode>>,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, _: &str) {
        tracing::debug!(?level, facility, "librdkafka");
    }

    fn error(&self, error: KafkaError, _: &str) {
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_refusal(*code)) {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
        }
    }
}

impl ConsumerContext for Heard {}

impl Heard {
    /// What an error means for whoever asked.
    pub(super) fn meaning(&self, error: &KafkaError, topic: &str) -> SourceError {
        use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
        let heard = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let code = error.rdkafka_error_code();
        match (code, heard) {
            (Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition), _) => {
                SourceError::Misconfigured(format!("there is no topic `{topic}`"))
            }
            (Some(code), _) if is_refusal(code) => SourceError::Refused(format!("{code}")),
            (_, Some(code)) => SourceError::Refused(format!("{code}")),
            (Some(code), None) => SourceError::Unavailable(format!("topic `{topic}`: {code}")),
            (None, None) => SourceError::Unavailable(format!("topic `{topic}`: no answer")),
        }
    }
}

fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed,
        SaslAuthenticationFailed, TopicAuthorizationFailed,
    };
    matches!(
        code,
        Authentication
            | ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed
    )
}

/// Lost connections are made anew by librdkafka; whoever waits runs into the time limit.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}

/// What an error about the configuration means.
pub(super) fn of_config(error: &KafkaError) -> SourceError {
    SourceError::Misconfigured(match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("option `{name}` of the connection is unknown to librdkafka, or its value is")
        }
        _ => "librdkafka does not take the options of the connection together".to_owned(),
    })
}
