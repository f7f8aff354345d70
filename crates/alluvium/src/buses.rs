//! The bus that the settings name, and who takes the audit events with it.

use std::path::Path;
use std::sync::Arc;

use alluvium_bus::{
    Bus, BusSettings, EmbeddedBus, KafkaBus, KafkaSettings, Mark, NatsAccess, NatsBus,
    NatsSettings, NatsTls,
};
use alluvium_config::{BusType, Settings};
use alluvium_ledger::OutboxEvent;
use alluvium_model::{Clock, Secret};
use alluvium_runtime::{EventSink, LogEvents};
use anyhow::Context;
use async_trait::async_trait;

use crate::destination::Destination;
use crate::exit::UsageError;

/// A bus, and who takes the audit events with it.
pub(crate) type Opened = (Arc<dyn Bus>, Arc<dyn EventSink>);

/// Opens the bus for use. It is refused where it was left, and where a move to it is not at its end.
pub(crate) async fn open(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
    let (bus, events) = open_any(settings, clock).await?;
    let mark = bus.mark().await?;
    if let Some(refusal) = mark.as_ref().and_then(Mark::refusal) {
        bus.close().await;
        return Err(UsageError(refusal).into());
    }
    Ok((bus, events))
}

/// Opens the bus whatever stands on it of a move. Where it has a stream for audit events they go
/// there, else into the log.
pub(crate) async fn open_any(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
    let bus: Arc<dyn Bus> = match settings.bus.kind {
        BusType::Embedded => EmbeddedBus::open(&settings.bus_path(), embedded(settings)?, clock)?,
        BusType::Nats => NatsBus::connect(nats(settings)?, clock).await?,
        BusType::Kafka => KafkaBus::connect(kafka(settings)?, clock).await?,
    };
    Ok((Arc::clone(&bus), Arc::new(BusEvents(bus))))
}

/// Where the bus is that the settings name.
pub(crate) fn place(settings: &Settings) -> Destination {
    let of = &settings.bus;
    match of.kind {
        BusType::Embedded => Destination::Embedded,
        BusType::Nats => Destination::Nats(of.nats.servers.clone()),
        BusType::Kafka => {
            let brokers = of.kafka.bootstrap_servers.split(',');
            Destination::Kafka(brokers.map(|broker| broker.trim().to_owned()).collect())
        }
    }
}

/// Opens a bus that was left once as a new one. Raw has all that it held; what is on this machine
/// alone is removed.
pub(crate) async fn open_anew(
    settings: &Settings,
    left: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Bus>> {
    left.close().await;
    drop(left);
    if settings.bus.kind != BusType::Embedded {
        return Err(UsageError(format!(
            "{} was left by an earlier move, and holds what is of that time; raw has all of it. \
             Delete there what begins with its prefix, or give another `prefix`",
            place(settings)
        ))
        .into());
    }
    let folder = settings.bus_path();
    // Renamed first, so that no part of a bus is ever taken for a bus.
    let aside = folder.with_extension("left");
    let removed = remove(&aside)
        .and_then(|()| std::fs::rename(&folder, &aside))
        .and_then(|()| remove(&aside));
    removed.with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(open_any(settings, clock).await?.0)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn embedded(settings: &Settings) -> anyhow::Result<BusSettings> {
    let of = &settings.bus.embedded;
    Ok(BusSettings {
        retention_bytes: of.retention_bytes.bytes(),
        retention_age: of.retention_time.duration(),
        max_unlanded_bytes: of.max_unlanded_bytes.bytes(),
        max_message_bytes: usize::try_from(of.max_message_bytes.bytes())?,
        cache_bytes: usize::try_from(of.cache_bytes.bytes())?,
    })
}

fn nats(settings: &Settings) -> anyhow::Result<NatsSettings> {
    let of = &settings.bus.nats;
    let file = |path: &Path| settings.folder().join(path);
    let identity = of.tls.cert.as_deref().zip(of.tls.key.as_deref());
    Ok(NatsSettings {
        servers: of.servers.clone(),
        access: nats_access(settings)?,
        tls: NatsTls {
            required: of.tls.required,
            ca: of.tls.ca.as_deref().map(file),
            identity: identity.map(|(cert, key)| (file(cert), file(key))),
        },
        prefix: of.prefix.clone(),
        replicas: of.replicas as usize,
        max_stream_bytes: of.max_stream_bytes.map(|size| size.bytes()),
        retention_bytes: of.retention_bytes.bytes(),
        retention_age: of.retention_time.duration(),
        max_unlanded_bytes: of.max_unlanded_bytes.bytes(),
        max_message_bytes: usize::try_from(of.max_message_bytes.bytes())?,
        audit_bytes: of.audit_bytes.bytes(),
        audit_age: of.audit_time.duration(),
    })
}

fn nats_access(settings: &Settings) -> anyhow::Result<NatsAccess> {
    let of = &settings.bus.nats;
    let resolve = |secret: &Secret| settings.secret(secret);
    Ok(match (&of.user, &of.password, &of.token, &of.nkey, &of.credentials) {
        (Some(user), Some(password), ..) => {
            NatsAccess::User { user: user.clone(), password: resolve(password)? }
        }
        (_, _, Some(token), ..) => NatsAccess::Token(resolve(token)?),
        (_, _, _, Some(seed), _) => NatsAccess::Nkey(resolve(seed)?),
        (_, _, _, _, Some(text)) => NatsAccess::Credentials(resolve(text)?),
        _ => NatsAccess::Open,
    })
}

fn kafka(settings: &Settings) -> anyhow::Result<KafkaSettings> {
    let of = settings.kafka()?;
    Ok(KafkaSettings {
        bootstrap_servers: of.bootstrap_servers,
        prefix: of.prefix,
        replication: (of.replication > 0).then_some(of.replication),
        username: of.username,
        password: of.password,
        options: of.options,
        retention_age: of.retention_time.duration(),
        max_unlanded_bytes: of.max_unlanded_bytes.bytes(),
        max_message_bytes: usize::try_from(of.max_message_bytes.bytes())?,
        audit_bytes: of.audit_bytes.bytes(),
        audit_age: of.audit_time.duration(),
        patience: of.timeout.duration(),
    })
}

/// Puts audit events on the bus's stream of them; where it has none, into the log.
struct BusEvents(Arc<dyn Bus>);

#[async_trait]
impl EventSink for BusEvents {
    async fn deliver(&self, event: &OutboxEvent) -> Result<(), String> {
        let about = event.event["subject"].as_str().unwrap_or_default();
        let body = event.event.to_string().into_bytes();
        match self.0.audit(&event.id, about, body).await {
            Ok(true) => Ok(()),
            Ok(false) => LogEvents.deliver(event).await,
            Err(error) => Err(error.to_string()),
        }
    }
}
