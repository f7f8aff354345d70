//! Whether the brokers let us in, as far as librdkafka tells: it tries for ever, whatever they say, and
//! who waits for it is told no more than that nobody answers.

use std::collections::BTreeMap;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::mishap::is_log_in;

/// What was told of connections that failed.
#[derive(Default)]
pub(super) struct Door {
    /// Of each broker why the last one did.
    failures: BTreeMap<String, Failure>,
    /// Whether every broker was tried, and to none there was a connection.
    shut: bool,
}

struct Failure {
    why: String,
    /// Whether it does not mend itself.
    refusal: bool,
}

impl Door {
    /// Takes up what was told of a connection, which begins with the name of the broker.
    pub(super) fn failed(&mut self, code: Option<Code>, told: &str) {
        if code == Some(Code::AllBrokersDown) {
            self.shut = true;
        } else if let Some((broker, why)) = told.split_once(": ") {
            let refusal = (code.is_some_and(is_log_in) && !is_broken(why)) || is_alert(why);
            self.failures.insert(broker.to_owned(), Failure { why: why.to_owned(), refusal });
        }
    }

    /// Why no broker lets us in, once each has refused us. One that cannot be reached may yet.
    pub(super) fn refusal(&self) -> Option<String> {
        let refused = self.shut && self.failures.values().all(|failure| failure.refusal);
        if refused { self.told() } else { None }
    }

    /// Why the connections failed, of each broker, if any did.
    pub(super) fn told(&self) -> Option<String> {
        let failures = self.failures.iter();
        let mut told: Vec<String> = failures.map(|(of, f)| format!("{of}: {}", f.why)).collect();
        if told.iter().any(|why| why.contains("Disconnected")) {
            told.push("who hangs up at once may want another `security.protocol`".to_owned());
        }
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// Whether the line broke, or nobody answered: where that is while somebody logs in or TLS begins,
/// librdkafka calls it a failure of these.
fn is_broken(why: &str) -> bool {
    ["Local: ", "SSL transport error", "Disconnected"].iter().any(|known| why.contains(known))
}

/// Whether the broker has ended TLS and said why. With TLS 1.3, a certificate of ours that it does not
/// take is told after the connection was made, as if the line had broken.
fn is_alert(why: &str) -> bool {
    why.contains("SSL alert number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD_PASSWORD: &str = "SASL authentication error: Authentication failed";
    const ALERT: &str = "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate \
                         required: SSL alert number 116";

    fn door(failures: &[(Code, &str, &str)]) -> Door {
        let mut door = Door::default();
        for (code, broker, why) in failures {
            door.failed(Some(*code), &format!("sasl_ssl://{broker}/bootstrap: {why}"));
        }
        door
    }

    #[test]
    fn a_refusal_counts_once_every_broker_has_refused() {
        let mut door = door(&[(Code::Authentication, "one:9092", BAD_PASSWORD)]);
        assert_eq!(door.refusal(), None, "another broker may let us in");
        door.failed(Some(Code::AllBrokersDown), "1/1 brokers are down");
        let refusal = door.refusal().unwrap();
        assert_eq!(refusal, format!("sasl_ssl://one:9092/bootstrap: {BAD_PASSWORD}"));
    }

    #[test]
    fn a_broker_that_cannot_be_reached_may_yet_let_us_in() {
        let mut door = door(&[
            (Code::Authentication, "one:9092", BAD_PASSWORD),
            (Code::BrokerTransportFailure, "two:9092", "Connection refused"),
            (Code::AllBrokersDown, "", ""),
        ]);
        assert_eq!(door.refusal(), None);
        let told = door.told().unwrap();
        assert!(told.contains(BAD_PASSWORD) && told.contains("Connection refused"), "{told}");
        // Its other address is tried, and there it refuses us too.
        door.failed(Some(Code::SSL), "sasl_ssl://two:9092/bootstrap: SSL handshake failed");
        assert!(door.refusal().is_some());
    }

    #[test]
    fn an_alert_is_a_refusal_and_a_line_that_broke_is_not() {
        let shut = (Code::AllBrokersDown, "", "");
        let alert = door(&[(Code::BrokerTransportFailure, "one:9092", ALERT), shut]);
        assert!(alert.refusal().is_some());
        for (code, why) in [
            (Code::BrokerTransportFailure, "Disconnected: connection closed by peer"),
            (
                Code::Authentication,
                "SASL SCRAM-SHA-512 mechanism handshake failed: Local: Broker transport failure: \
                 broker's supported mechanisms: ",
            ),
            (Code::Authentication, "Disconnected: hung up"),
            (Code::SSL, "SSL transport error: Connection timed out"),
        ] {
            assert_eq!(door(&[(code, "one:9092", why), shut]).refusal(), None, "{why}");
        }
    }
}
