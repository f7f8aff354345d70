//! Where a bus is measured: in this process, on a server of NATS, or on a cluster of Kafka.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use alluvium_bus::{Bus, EmbeddedBus, KafkaBus, KafkaSettings, NatsBus, NatsSettings};
use alluvium_model::{Clock, EntityId, SystemClock};
use alluvium_testkit::NatsServer;
use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::Value;

use crate::ours::{NO_BOUND, embedded_settings};

/// From this version on NATS can sync before it acknowledges.
const SYNCS_FROM: (u64, u64) = (2, 10);
/// What tells it to.
const SYNC_ALWAYS: &str = "sync_interval: always";

/// A bus, and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process.
    Embedded,
    /// On a server that is started here, as it comes.
    Nats,
    /// The same, told to sync before it acknowledges.
    NatsSynced,
    /// On librdkafka's mock cluster.
    KafkaMock,
    /// On brokers at this address.
    Kafka(String),
}

impl Place {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Nats => "nats",
            Self::NatsSynced => "nats, sync always",
            Self::KafkaMock => "kafka (a mock, in memory)",
            Self::Kafka(_) => "kafka",
        }
    }

    /// What an acknowledgement is worth there.
    pub(crate) fn worth(&self) -> &'static str {
        match self {
            Self::Embedded => "each page is synced to the disk before it is acknowledged",
            Self::Nats => {
                "one server, one replica, file storage, as it comes: it acknowledges before it \
                 syncs, every two minutes; a power cut may lose what was acknowledged"
            }
            Self::NatsSynced => "the same with `sync_interval: always`: synced, then acknowledged",
            Self::KafkaMock => {
                "librdkafka's mock cluster, in a process of its own: nothing is written to a disk, \
                 transactions roll nothing back, and it keeps 5 MB of a topic, so that each page is \
                 read before the next is published. It tells what our side costs, not what Kafka does"
            }
            Self::Kafka(_) => "brokers and their disks as they are; they sync when they like",
        }
    }

    /// Whether each page has to be read before the next one is published.
    pub(crate) fn forgets(&self) -> bool {
        *self == Self::KafkaMock
    }

    /// Opens the bus, empty.
    pub(crate) async fn open(&self, scratch: &Path, topic: &EntityId) -> anyhow::Result<Opened> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Ok(match self {
            Self::Embedded => {
                let folder = tempfile::tempdir_in(scratch)?;
                let bus =
                    EmbeddedBus::open(&folder.path().join("bus"), embedded_settings(), clock)?;
                Opened { bus, behind: Behind::Folder(folder) }
            }
            Self::Nats => nats(scratch, "", clock).await?,
            Self::NatsSynced => nats(scratch, SYNC_ALWAYS, clock).await?,
            Self::KafkaMock => {
                let settings = KafkaSettings::default();
                let mock = Mock::start(&settings.prefix, topic)?;
                let bootstrap_servers = mock.address.clone();
                let bus = kafka(KafkaSettings { bootstrap_servers, ..settings }, clock).await?;
                Opened { bus, behind: Behind::Mock(mock) }
            }
            Self::Kafka(address) => {
                // Topics of its own each time, so that it begins empty.
                let prefix = format!("alluvium-bench-{}.", SystemClock.now().as_millisecond());
                let bootstrap_servers = address.clone();
                let settings = KafkaSettings { bootstrap_servers, prefix, ..Default::default() };
                Opened { bus: kafka(settings, clock).await?, behind: Behind::Elsewhere }
            }
        })
    }
}

/// A bus, open. What stands behind it ends with this.
pub(crate) struct Opened {
    pub(crate) bus: Arc<dyn Bus>,
    behind: Behind,
}

enum Behind {
    Folder(tempfile::TempDir),
    Nats(NatsServer),
    Mock(Mock),
    /// A cluster that was there before.
    Elsewhere,
}

impl Opened {
    /// The id of the server's process, where it is ours to measure.
    pub(crate) fn server(&self) -> Option<String> {
        match &self.behind {
            Behind::Nats(server) => server.server.id().map(|id| id.to_string()),
            Behind::Mock(mock) => Some(mock.process.id().to_string()),
            Behind::Folder(_) | Behind::Elsewhere => None,
        }
    }

    pub(crate) async fn close(self) {
        self.bus.close().await;
        drop(self.bus);
        if let Behind::Folder(folder) = self.behind
            && let Err(error) = folder.close()
        {
            eprintln!("what was measured could not be removed: {error}");
        }
    }
}

/// The servers of NATS that can be measured here, or why there are none.
pub(crate) fn nats_places(scratch: &Path) -> Result<Vec<Place>, String> {
    let Some(server) = NatsServer::within(scratch, "") else {
        return Err("nats-server is not there: install the Debian package `nats-server`".to_owned());
    };
    let told = server.monitor("/varz").unwrap_or_default();
    let told: Value = serde_json::from_str(&told).unwrap_or_default();
    let version = told["version"].as_str().unwrap_or("an unknown version");
    if number(version).is_some_and(|version| version >= SYNCS_FROM) {
        return Ok(vec![Place::Nats, Place::NatsSynced]);
    }
    eprintln!("nats-server is {version}: only from 2.10 on it can sync before it acknowledges");
    Ok(vec![Place::Nats])
}

/// The first two numbers of a version.
fn number(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(str::parse::<u64>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

async fn nats(scratch: &Path, jetstream: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
    let server = NatsServer::within(scratch, jetstream).context("nats-server is not there")?;
    let of = embedded_settings();
    let settings = NatsSettings {
        servers: vec![server.url()],
        retention_bytes: of.retention_bytes,
        retention_age: of.retention_age,
        max_unlanded_bytes: of.max_unlanded_bytes,
        max_message_bytes: of.max_message_bytes,
        ..NatsSettings::default()
    };
    Ok(Opened { bus: NatsBus::connect(settings, clock).await?, behind: Behind::Nats(server) })
}

async fn kafka(settings: KafkaSettings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Bus>> {
    let settings = KafkaSettings { max_unlanded_bytes: NO_BOUND, ..settings };
    Ok(KafkaBus::connect(settings, clock).await?)
}

/// A mock cluster in a process of its own, so that what it takes of the processors is told apart.
struct Mock {
    process: Child,
    address: String,
}

impl Mock {
    fn start(prefix: &str, topic: &EntityId) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("mock-kafka")
            .args([format!("{prefix}cursors"), format!("{prefix}{topic}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the mock cluster")?;
        let Some(output) = process.stdout.take() else { bail!("no pipe to the mock cluster") };
        let mut mock = Self { process, address: String::new() };
        BufReader::new(output).read_line(&mut mock.address)?;
        mock.address.truncate(mock.address.trim_end().len());
        match mock.address.is_empty() {
            true => bail!("the mock cluster did not start"),
            false => Ok(mock),
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("a mock cluster did not end: {error}");
        }
    }
}

/// Serves a mock cluster with these topics, until nobody holds its standard input.
pub(crate) fn serve_mock(topics: &[String]) -> anyhow::Result<()> {
    let host: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create()?;
    let cluster = host.client().mock_cluster().context("librdkafka made no mock cluster")?;
    for topic in topics {
        cluster.create_topic(topic, 1, 1)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", cluster.bootstrap_servers())?;
    out.flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(number("2.9.10").unwrap() < SYNCS_FROM);
        assert!(number("2.10.0").unwrap() >= SYNCS_FROM);
        assert!(number("3.0.0-beta").unwrap() >= SYNCS_FROM);
        assert_eq!(number("an unknown version"), None);
    }
}
