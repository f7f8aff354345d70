//! What Kafka's errors mean. Their texts are made from codes: what librdkafka says beside them may
//! repeat a setting.

use alluvium_model::SourceError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What an error means for whoever asked; `heard` is a refusal that was told beside it.
pub(super) fn meaning(
    error: &KafkaError,
    heard: Option<RDKafkaErrorCode>,
    topic: &str,
) -> SourceError {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    match (error.rdkafka_error_code(), heard) {
        (Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition), _) => {
            SourceError::Misconfigured(format!("there is no topic `{topic}`"))
        }
        (Some(code), _) if is_refusal(code) => SourceError::Refused(format!("{code}")),
        (_, Some(code)) => SourceError::Refused(format!("{code}")),
        (Some(code), None) => SourceError::Unavailable(format!("topic `{topic}`: {code}")),
        (None, None) => SourceError::Unavailable(format!("topic `{topic}`: no answer")),
    }
}

/// Whether the brokers will not have us.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed, IllegalSASLState,
        SSL, SaslAuthenticationFailed, TopicAuthorizationFailed, UnsupportedSASLMechanism,
    };
    matches!(
        code,
        Authentication
            | ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | IllegalSASLState
            | SSL
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed
            | UnsupportedSASLMechanism
    )
}

/// Whether the line broke, or nobody answered, by what librdkafka says: where that is while somebody
/// logs in or TLS begins, it has the code of a refusal.
pub(super) fn is_broken(reason: &str) -> bool {
    ["Local: ", "SSL transport error", "Disconnected"].iter().any(|known| reason.contains(known))
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
