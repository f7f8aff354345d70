//! The servers of bus and ledger, where they are not files of the workers, and their outages.

use std::fmt::Write as _;

use alluvium_testkit::{KafkaMock, NatsServer, PostgresServer, Server};

use super::faults::{Outage, Part};
use super::options::{Bus, Ledger, Options};
use super::shapes::{SHAPES, Shape};

/// Of the mock cluster, so many records at most come at once: it keeps 5 MB of a topic, landed or not.
const MOCK_AT_ONCE: u64 = 2_000;

/// Who carries what the workers publish.
enum Broker {
    /// The worker itself.
    None,
    Nats(NatsServer),
    Mock(KafkaMock),
    /// Somebody's cluster.
    Kafka(String),
}

/// The servers.
pub(crate) struct Servers {
    broker: Broker,
    postgres: Option<PostgresServer>,
    /// What the names of Kafka's topics begin with, so that each run has its own.
    prefix: String,
}

impl Servers {
    /// Starts what the options ask for. Panics with what is missing.
    pub(crate) fn start(options: &Options) -> Self {
        let prefix = format!("chaos.{}.{}.", options.seed, std::process::id());
        let broker = match (options.bus, &options.brokers) {
            (Bus::Embedded, _) => Broker::None,
            (Bus::Nats, _) => Broker::Nats(NatsServer::start().expect("nats-server")),
            (Bus::Kafka, Some(brokers)) => Broker::Kafka(brokers.clone()),
            (Bus::Kafka, None) => {
                let own = ["cursors", "audit"].map(str::to_owned);
                let names = SHAPES.iter().map(Shape::id).chain(own);
                Broker::Mock(KafkaMock::with_topics(names.map(|name| format!("{prefix}{name}"))))
            }
        };
        let postgres = (options.ledger == Ledger::Postgres)
            .then(|| PostgresServer::start().expect("PostgreSQL"));
        Self { broker, postgres, prefix }
    }

    /// What the settings say of them.
    pub(crate) fn settings(&self) -> String {
        let mut text = match &self.broker {
            Broker::None => String::new(),
            Broker::Nats(server) => format!(
                "[bus]\ntype = \"nats\"\n[bus.nats]\nservers = [{:?}]\n\
                 retention_bytes = \"1MB\"\nretention_time = \"2s\"\n",
                server.url()
            ),
            Broker::Mock(cluster) => self.kafka(&cluster.servers()),
            Broker::Kafka(brokers) => self.kafka(brokers),
        };
        if let Some(server) = &self.postgres {
            // Four and more processes share what the server takes.
            writeln!(text, "[ledger]\nurl = {:?}\nmax_connections = 4", server.url()).unwrap();
        }
        text
    }

    /// Raw is waited for early, so that the mock cluster drops nothing that raw has not landed.
    fn kafka(&self, brokers: &str) -> String {
        format!(
            "[bus]\ntype = \"kafka\"\n[bus.kafka]\nbootstrap_servers = {brokers:?}\n\
             prefix = {:?}\nretention_time = \"2s\"\nmax_unlanded_bytes = \"2MB\"\n\
             max_message_bytes = \"1MB\"\n",
            self.prefix
        )
    }

    /// Those that can be taken away.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let broker = matches!(self.broker, Broker::Nats(_) | Broker::Mock(_)).then_some(Part::Bus);
        broker.into_iter().chain(self.postgres.as_ref().map(|_| Part::Ledger)).collect()
    }

    /// Whether a page that was broken off is never seen, and whoever comes too late is refused. The
    /// mock cluster knows no transactions.
    pub(crate) fn is_transactional(&self) -> bool {
        !matches!(self.broker, Broker::Mock(_))
    }

    /// So many records of an entity may come at once.
    pub(crate) fn most_at_once(&self) -> u64 {
        if self.is_transactional() { u64::MAX } else { MOCK_AT_ONCE }
    }

    /// It is there no more.
    pub(crate) fn take_away(&mut self, part: Part, outage: Outage) {
        match self.server(part) {
            Some(server) => match outage {
                Outage::Killed => server.kill(),
                Outage::Hangs => server.freeze(),
            },
            None => self.mock(KafkaMock::down),
        }
    }

    /// It is there again, with all that it had.
    pub(crate) fn bring_back(&mut self, part: Part, outage: Outage) {
        match self.server(part) {
            Some(server) => match outage {
                Outage::Killed => server.resume(),
                Outage::Hangs => server.thaw(),
            },
            None => self.mock(KafkaMock::up),
        }
    }

    fn server(&mut self, part: Part) -> Option<&mut Server> {
        match (part, &mut self.broker) {
            (Part::Ledger, _) => self.postgres.as_mut().map(|postgres| &mut postgres.server),
            (Part::Bus, Broker::Nats(nats)) => Some(&mut nats.server),
            (Part::Bus, _) => None,
        }
    }

    fn mock(&self, act: impl FnOnce(&KafkaMock)) {
        if let Broker::Mock(cluster) = &self.broker {
            act(cluster);
        }
    }
}
