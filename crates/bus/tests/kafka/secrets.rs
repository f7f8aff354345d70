//! No secret shows, whatever librdkafka has to tell.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{KafkaBus, KafkaSettings};
use alluvium_model::{Secret, SystemClock};

use crate::kafka::mock::Mock;
use crate::log::Lines;

const PASSWORD: &str = "canary-of-the-password";
const KEY: &str = "canary-of-the-key";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_errors_logs_and_settings() {
    let log = Lines::of_all();
    let mock = Mock::new();
    let options = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("debug", "all"),
        ("ssl.key.password", KEY),
    ];
    let settings = KafkaSettings {
        username: Some("alluvium".to_owned()),
        password: Some(Secret::new(PASSWORD)),
        options: options.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
        patience: Duration::from_secs(3),
        ..mock.settings()
    };
    let mut shown = format!("{settings:?}");
    let refused = KafkaBus::connect(settings.clone(), Arc::new(SystemClock)).await.map(drop);
    write!(shown, "{refused:?}").unwrap();
    let mut odd = settings;
    odd.options.insert("sasl.mechanism".to_owned(), Secret::new(KEY));
    odd.options.insert("ssl.endpoint.identification.algorithm".to_owned(), Secret::new(KEY));
    let refused = KafkaBus::connect(odd, Arc::new(SystemClock)).await.map(drop).unwrap_err();
    write!(shown, "{refused} {refused:?}").unwrap();
    assert!(log.count(&["said=", "SASL"]) > 0, "librdkafka has told nothing of the log-in");
    shown.push_str(&log.text());
    assert!(!shown.contains(PASSWORD) && !shown.contains(KEY), "a secret shows");
}
