//! What an error of librdkafka means for who uses the bus.

use alluvium_model::BusError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaConfRes;

/// The error of something that `doing` says, as the bus tells it. Shows no option's value.
pub(super) fn told(doing: &str, error: &KafkaError) -> BusError {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            BusError::Refused(format!("Kafka's client knows no option `{name}`"))
        }
        KafkaError::ClientConfig(_, _, name, _) => {
            BusError::Refused(format!("Kafka's client does not take the value of option `{name}`"))
        }
        KafkaError::ClientCreation(why) => {
            // As they are called in our settings.
            let why = why.replace("sasl.username", "`username`");
            let why = why.replace("sasl.password", "`password`");
            BusError::Refused(format!("Kafka's options: {why}"))
        }
        _ => match code(error) {
            Some(code) if is_refusal(code) => BusError::Refused(format!("{doing}: {code}")),
            Some(code) => BusError::Unavailable(format!("{doing}: {code}")),
            None => BusError::Unavailable(format!("{doing}: {error}")),
        },
    }
}

/// The error of a call that did not come to its end.
pub(super) fn stopped(error: &tokio::task::JoinError) -> BusError {
    BusError::Unavailable(format!("the bus was interrupted: {error}"))
}

/// The code by which the brokers or librdkafka say what is wrong.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether another producer has taken the transactional id over.
pub(super) fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::InvalidProducerIdMapping
        )
    )
}

/// Whether messages were thrown away because of something else.
pub(super) fn is_purged(error: &KafkaError) -> bool {
    matches!(code(error), Some(Code::PurgeQueue | Code::PurgeInflight))
}

/// Whether the topic is not there (any more).
pub(super) fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId
        )
    )
}

/// Whether it is the log-in that fails, or TLS.
pub(super) fn is_log_in(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
    )
}

/// Whether nothing but the operator mends it.
fn is_refusal(code: Code) -> bool {
    is_log_in(code)
        || matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::InvalidTopic
                | Code::UnsupportedFeature
        )
}
