//! What the settings' types cannot say: bounds of single values, and values that must fit together.

use std::net::SocketAddr;
use std::time::Duration;

use alluvium_model::quantity::{ByteSize, Period};
use serde_json::Value;

use super::{BusType, NatsBusSettings, Settings, lake};
use crate::address;

/// How an address to listen at reads.
pub(crate) const LISTEN_PATTERN: &str =
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";

/// What is wrong with a setting: its dotted key, the problem, and what would be right.
pub(super) type Breach = (&'static str, String, String);

const KB: u64 = 1_000;
const MB: u64 = 1_000_000;
const GB: u64 = 1_000_000_000;

/// Checks the values before they are read into types.
pub(super) fn check_values(value: &Value) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if let Some(listen) = value.pointer("/http/listen").and_then(Value::as_str)
        && listen.parse::<SocketAddr>().is_err()
    {
        let help = "write an IP address and a port, such as 127.0.0.1:7411".to_owned();
        breaches.push(("http.listen", "this is no address".to_owned(), help));
    }
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
    if let Some(problem) = text("/ledger/url").and_then(address::wrong_database) {
        let help = "write postgres://user@host:5432/database, and ledger.password beside it";
        breaches.push(("ledger.url", problem, help.to_owned()));
    }
    breaches
}

/// Checks the settings, and whether they fit together if `all_fit` by themselves.
pub(super) fn check(settings: &Settings, all_fit: bool) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let bus = &settings.bus.embedded;
    let nats = &settings.bus.nats;
    let kafka = &settings.bus.kafka;
    let layers = &settings.layers;
    for (key, size, min, max) in [
        ("bus.embedded.retention_bytes", bus.retention_bytes, MB, u64::MAX),
        ("bus.embedded.max_unlanded_bytes", bus.max_unlanded_bytes, MB, u64::MAX),
        ("bus.embedded.max_message_bytes", bus.max_message_bytes, KB, GB),
        ("bus.embedded.cache_bytes", bus.cache_bytes, MB, 1_000 * GB),
        ("bus.nats.retention_bytes", nats.retention_bytes, MB, u64::MAX),
        ("bus.nats.max_unlanded_bytes", nats.max_unlanded_bytes, MB, u64::MAX),
        ("bus.nats.max_message_bytes", nats.max_message_bytes, KB, GB),
        ("bus.nats.audit_bytes", nats.audit_bytes, MB, 1_000_000 * GB),
        ("bus.kafka.max_unlanded_bytes", kafka.max_unlanded_bytes, MB, u64::MAX),
        ("bus.kafka.max_message_bytes", kafka.max_message_bytes, KB, GB),
        ("bus.kafka.audit_bytes", kafka.audit_bytes, MB, 1_000_000 * GB),
        ("layers.batch_bytes", layers.batch_bytes, KB, 2 * GB),
        ("layers.raw_linger_bytes", layers.raw_linger_bytes, 1, 2 * GB),
        ("maintenance.file_bytes", settings.maintenance.file_bytes, MB, 10 * GB),
        ("runtime.memory_bytes", settings.runtime.memory_bytes, 16 * MB, u64::MAX),
    ] {
        breaches.extend(size_within(key, size, min, max));
    }
    for (key, period) in [
        ("bus.embedded.retention_time", bus.retention_time),
        ("bus.nats.retention_time", nats.retention_time),
        ("bus.nats.audit_time", nats.audit_time),
        ("bus.kafka.retention_time", kafka.retention_time),
        ("bus.kafka.audit_time", kafka.audit_time),
        ("bus.kafka.timeout", kafka.timeout),
        ("ledger.retention", settings.ledger.retention),
        ("ledger.statement_time", settings.ledger.statement_time),
        ("layers.raw_linger_time", layers.raw_linger_time),
        ("maintenance.log_retention", settings.maintenance.log_retention),
        ("maintenance.garbage_age", settings.maintenance.garbage_age),
        ("runtime.retry.initial", settings.runtime.retry.initial),
        ("lake.s3.request_time", settings.lake.s3.request_time),
    ] {
        breaches.extend(some_time(key, period));
    }
    if let Some(size) = nats.max_stream_bytes {
        breaches.extend(size_within("bus.nats.max_stream_bytes", size, MB, 1_000_000 * GB));
    }
    breaches.extend(nats_access(nats));
    breaches.extend(lake::check(&settings.lake));
    breaches.extend(lease_time(settings.runtime.lease_time));
    breaches.extend(settings.http.allowed_hosts.iter().filter_map(|host| not_a_name(host)));
    if all_fit {
        breaches.extend(fit_together(settings));
    }
    breaches
}

fn not_a_name(host: &str) -> Option<Breach> {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    (host.is_empty() || !host.chars().all(fine)).then(|| {
        let help = "the name alone, without scheme and port, such as lake.example".to_owned();
        ("http.allowed_hosts", format!("`{host}` is no host name"), help)
    })
}

/// What of the access to NATS does not go together.
fn nats_access(nats: &NatsBusSettings) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach = |key: &'static str, problem: &str, help: &str| {
        breaches.push((key, problem.to_owned(), help.to_owned()));
    };
    let ways = [
        ("bus.nats.user", nats.user.is_some() || nats.password.is_some()),
        ("bus.nats.token", nats.token.is_some()),
        ("bus.nats.nkey", nats.nkey.is_some()),
        ("bus.nats.credentials", nats.credentials.is_some()),
    ];
    for (key, _) in ways.into_iter().filter(|(_, given)| *given).skip(1) {
        breach(key, "this is a second way to be known to NATS", "leave all of them out but one");
    }
    if nats.user.is_some() != nats.password.is_some() {
        breach("bus.nats.user", "user and password belong together", "give both, or none");
    }
    if nats.tls.cert.is_some() != nats.tls.key.is_some() {
        breach("bus.nats.tls.cert", "cert and key belong together", "give both, or none");
    }
    if nats.servers.iter().any(|server| address::has_user(server)) {
        let help = "leave it out; user and password have settings of their own";
        breach("bus.nats.servers", "an address must not hold a user or a password", help);
    }
    breaches
}

fn size_within(key: &'static str, size: ByteSize, min: u64, max: u64) -> Option<Breach> {
    let (min_size, max_size) = (ByteSize::new(min), ByteSize::new(max));
    if size.bytes() < min {
        Some((key, format!("{size} is too little"), format!("at least {min_size}")))
    } else if size.bytes() > max {
        Some((key, format!("{size} is too much"), format!("at most {max_size}")))
    } else {
        None
    }
}

fn some_time(key: &'static str, period: Period) -> Option<Breach> {
    period.duration().is_zero().then(|| {
        (key, "this must be longer than no time".to_owned(), "for instance 60s".to_owned())
    })
}

fn lease_time(period: Period) -> Option<Breach> {
    let key = "runtime.lease_time";
    let (least, most) = (Duration::from_secs(2), Duration::from_secs(600));
    if period.duration() < least {
        let problem = "a moment's delay would cost a worker its work".to_owned();
        return Some((key, problem, "at least 2s; 10s is a good start".to_owned()));
    }
    (period.duration() > most).then(|| {
        let problem = "so long nobody would go on with the work of a worker that died".to_owned();
        (key, problem, "at most 10m; 10s is a good start".to_owned())
    })
}

/// What the bus holds for raw: that setting, its value, and the setting of the largest message.
fn room(settings: &Settings) -> (&'static str, ByteSize, &'static str) {
    let bus = &settings.bus;
    match bus.kind {
        BusType::Embedded => (
            "bus.embedded.max_unlanded_bytes",
            bus.embedded.max_unlanded_bytes,
            "bus.embedded.max_message_bytes",
        ),
        BusType::Nats => (
            "bus.nats.max_unlanded_bytes",
            bus.nats.max_unlanded_bytes,
            "bus.nats.max_message_bytes",
        ),
        BusType::Kafka => (
            "bus.kafka.max_unlanded_bytes",
            bus.kafka.max_unlanded_bytes,
            "bus.kafka.max_message_bytes",
        ),
    }
}

fn fit_together(settings: &Settings) -> Vec<Breach> {
    let layers = &settings.layers;
    let retry = &settings.runtime.retry;
    let mut breaches = Vec::new();
    let (unlanded, most, message) = room(settings);
    if layers.raw_linger_bytes > most {
        let problem = format!("raw would wait for more than the bus holds for it ({most})");
        breaches.push(("layers.raw_linger_bytes", problem, format!("at most {unlanded}")));
    }
    if settings.max_message_bytes() > most {
        let problem = format!("the bus holds only {most} for raw");
        breaches.push((message, problem, format!("at most {unlanded}")));
    }
    if layers.batch_bytes > settings.runtime.memory_bytes {
        let problem = format!("a batch would not fit in {}", settings.runtime.memory_bytes);
        breaches.push(("layers.batch_bytes", problem, "at most runtime.memory_bytes".to_owned()));
    }
    let ledger = &settings.ledger;
    if ledger.url.is_some() && ledger.path.is_some() {
        let problem = "the ledger is a database or a file, not both".to_owned();
        breaches.push(("ledger.path", problem, "leave ledger.path or ledger.url out".to_owned()));
    }
    if ledger.url.is_none() && ledger.password.is_some() {
        let problem = "a file asks for no password".to_owned();
        breaches.push(("ledger.password", problem, "give ledger.url, too".to_owned()));
    }
    if retry.max < retry.initial {
        let problem = format!("this is shorter than the first wait ({})", retry.initial);
        breaches.push(("runtime.retry.max", problem, "at least runtime.retry.initial".to_owned()));
    }
    breaches
}
