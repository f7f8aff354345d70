//! No secret shows, whatever librdkafka has to tell.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_bus::{KafkaBus, KafkaSettings};
use alluvium_model::{Secret, SystemClock};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::kafka::mock::Mock;

const PASSWORD: &str = "canary-of-the-password";
const KEY: &str = "canary-of-the-key";

static LINES: Mutex<String> = Mutex::new(String::new());

/// Takes up everything that is logged, by whatever thread.
struct Everything;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        event.record(&mut Line(&mut lines));
        lines.push('\n');
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_errors_logs_and_settings() {
    tracing::subscriber::set_global_default(Everything).unwrap();
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
    shown.push_str(&LINES.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(shown.contains("SASL") || shown.contains("sasl"), "librdkafka has told something");
    assert!(!shown.contains(PASSWORD) && !shown.contains(KEY), "a secret shows");
}
