//! What a run is asked for.

use alluvium_testkit::is_root;

/// A bus that chaos can be made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Within the one process that works.
    Embedded,
    /// A server, with several workers on it.
    Nats,
    /// A cluster, or the mock of one, with several workers on it.
    Kafka,
}

impl Bus {
    /// The bus of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Embedded, Self::Nats, Self::Kafka].into_iter().find(|bus| bus.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
        }
    }

    /// Whether several workers share it.
    pub fn is_shared(self) -> bool {
        self != Self::Embedded
    }

    /// The ledger that goes with it, where none is asked for.
    pub fn ledger(self) -> Ledger {
        if self.is_shared() { Ledger::Postgres } else { Ledger::Sqlite }
    }
}

/// A ledger that chaos can be made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

impl Ledger {
    /// The ledger of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Sqlite, Self::Postgres].into_iter().find(|ledger| ledger.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bus.
    pub bus: Bus,
    /// The ledger.
    pub ledger: Ledger,
    /// Brokers of Kafka that are not ours; none: the mock cluster.
    pub brokers: Option<String>,
    /// So many workers stay, where they share the bus.
    pub workers: u64,
    /// So many kills are to be survived.
    pub kills: u64,
    /// What everything follows from.
    pub seed: u64,
    /// After so many seconds there are no more faults, however few kills there were, once each kind
    /// has come.
    pub seconds: u64,
    /// So many kills there must be by then.
    pub least: u64,
    /// About so many records are told.
    pub records: u64,
    /// A worker, or a command at the end, may have so much memory, in MiB.
    pub memory: u64,
    /// Says nothing until the end.
    pub quiet: bool,
}

impl Options {
    /// So many workers stay; another one comes and goes. On the embedded bus there is only that one.
    pub(crate) fn staying(&self) -> u64 {
        if self.bus.is_shared() { self.workers } else { 0 }
    }

    /// Whether there is to be a disk that gets full. Only root may mount one; who is not root becomes
    /// it in a namespace of his own, where there is nobody else for PostgreSQL to run as.
    pub fn fills_disks(&self) -> bool {
        is_root() || self.ledger == Ledger::Sqlite
    }

    /// The command line that asks for the same.
    pub fn command(&self) -> String {
        let Self { bus, ledger, brokers, workers, kills, seed, .. } = self;
        let Self { seconds, least, records, memory, .. } = self;
        let (bus, ledger) = (bus.name(), ledger.name());
        let brokers = brokers.as_ref().map(|at| format!(" --kafka {at}")).unwrap_or_default();
        format!(
            "chaos --bus {bus} --ledger {ledger}{brokers} --workers {workers} --kills {kills} \
             --least {least} --records {records} --seed {seed} --seconds {seconds} \
             --memory {memory}"
        )
    }
}
