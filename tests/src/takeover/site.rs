//! The servers, the project, and the workers side by side in it.

use std::fs::{self, File};
use std::io::{BufWriter, Result};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alluvium_testkit::{NatsServer, PostgresServer, free_port};
use serde_json::Value;

use super::options::Options;
use super::report::Weight;
use super::rows::{ENTITY, MAP, metadata};
use crate::memory::resident;
use crate::platform::{QUIET, on_nats};
use crate::wait::until_every;
use crate::workers::{PAUSE, await_all, has_silver, is_ready, told, worker};
use crate::{Running, TestPlatform, until};

/// The folder of who works here without being a worker.
const DESK: &str = "data=data-desk";

/// A worker.
pub(crate) struct Worker {
    /// What its folder is called by.
    pub name: &'static str,
    /// The process.
    pub process: Running,
    port: u16,
}

/// All that there is. Who goes first when it goes: the workers, then their folders and servers.
pub(crate) struct Site {
    /// Those who work.
    pub workers: Vec<Worker>,
    platform: TestPlatform,
    patience: u64,
    _servers: (NatsServer, PostgresServer),
}

impl Site {
    /// The servers and the project, without workers. Panics with what is missing.
    pub(crate) fn new(options: &Options) -> Self {
        let nats = NatsServer::start().expect("nats-server");
        // The ledger's time is a part of a takeover's.
        let postgres = PostgresServer::with(&["fsync=on"]).expect("PostgreSQL");
        let platform = TestPlatform::empty();
        let settings = format!(
            "{QUIET}\n[ledger]\nurl = {:?}\n\n[lake]\npath = {:?}\n\n\
             [runtime]\nlease_time = \"{}s\"\n",
            postgres.url(),
            platform.folder().join("lake"),
            options.lease
        );
        let (systems, entities) = metadata();
        platform.write("alluvium.toml", &on_nats(&settings, &nats, "alluvium"));
        platform.write("systems.json", &systems.to_string());
        platform.write("entities.json", &entities.to_string());
        let (workers, patience) = (Vec::new(), options.patience());
        Self { workers, platform, patience, _servers: (nats, postgres) }
    }

    /// Starts a worker, and gives the port on which it tells how it stands.
    pub(crate) fn start(&mut self, name: &'static str) -> u16 {
        let port = free_port();
        let process = worker(&self.platform, name, port, &[]);
        self.workers.push(Worker { name, process, port });
        port
    }

    /// Waits until all workers know of each other.
    pub(crate) fn await_all(&self) {
        let ports: Vec<u16> = self.workers.iter().map(|worker| worker.port).collect();
        await_all(&ports);
    }

    /// A file of the project, filled.
    pub(crate) fn file(
        &self,
        name: &str,
        fill: impl FnOnce(BufWriter<File>) -> Result<()>,
    ) -> PathBuf {
        let path = self.platform.folder().join(name);
        fill(BufWriter::new(File::create(&path).unwrap())).unwrap();
        path
    }

    /// Publishes until all layers have it. It is begun again where it does not end well, and goes on
    /// where it was.
    pub(crate) fn publish(&self, file: &Path) {
        let file = file.to_str().unwrap();
        let args =
            ["publish", ENTITY, file, "--map", MAP, "--wait", "-q", "-o", "ndjson", "--set", DESK];
        until("the end of a file", self.patience, || {
            let published = self.platform.run_within("publish-", &args, self.patience);
            if published.code != 0 {
                eprintln!("{file} is published again: {}", published.stderr);
            }
            (published.code == 0).then_some(())
        });
    }

    /// The one row that a statement gives.
    pub(crate) fn row(&self, sql: &str) -> Value {
        let args = ["query", sql, "-q", "-o", "ndjson", "--set", DESK];
        let answer = self.platform.run_within("query-", &args, self.patience).ok();
        answer.rows().swap_remove(0)
    }

    /// Waits until one of two has silver and the other one is ready to take it over, and says which.
    pub(crate) fn await_owner(&self) -> usize {
        until("a worker that is ready to take silver over", self.patience, || self.owner())
    }

    /// The same, until it has been so for a whole lease: one that has much to follow tells only after
    /// half of a lease that it is not ready any more. Gives how long it took until this time began.
    pub(crate) fn await_standby(&self, lease: Duration) -> Duration {
        let (begun, mut steady) = (Instant::now(), Steady::default());
        until_every(PAUSE, "a worker that stays ready for silver", self.patience, || {
            let now = Instant::now();
            let since = steady.since(self.owner(), now)?;
            (now.duration_since(since) >= lease).then(|| since.duration_since(begun))
        })
    }

    /// Who has silver, where all others are ready to take it over.
    fn owner(&self) -> Option<usize> {
        let told = self.workers.iter().map(|worker| told(worker.port));
        let told: Vec<Value> = told.collect::<Option<_>>()?;
        let owner = told.iter().position(|of| has_silver(of, ENTITY))?;
        let mut others = told.iter().enumerate().filter(|(at, _)| *at != owner);
        others.all(|(_, of)| is_ready(of, ENTITY)).then_some(owner)
    }

    /// What each worker takes, of which this one has silver.
    pub(crate) fn weights(&self, owner: usize) -> Vec<Weight> {
        let weigh = |(at, worker): (usize, &Worker)| {
            let index = self.platform.folder().join(format!("data-{}/index", worker.name));
            Weight {
                worker: worker.name,
                has_silver: at == owner,
                index: bytes_below(&index),
                memory: resident(worker.process.id()) * 1024,
            }
        };
        self.workers.iter().enumerate().map(weigh).collect()
    }

    /// All workers are still at work, and none has told of a defect.
    pub(crate) fn assert_at_work(&mut self) {
        for Worker { name, process, .. } in &mut self.workers {
            let (ended, said) = (process.ended(), process.said());
            assert!(ended.is_none(), "worker {name} has ended by itself: {ended:?}\n{said}");
            for word in ["defect of Alluvium", "panicked"] {
                assert!(!said.contains(word), "worker {name} says `{word}`\n{said}");
            }
        }
    }

    /// Ends the workers, keeps what they leave behind, and says where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.workers.clear();
        self.platform.keep(true);
        self.platform.folder().to_owned()
    }
}

/// What the files of a folder take on the disk, in bytes. They may go while they are counted.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        found => found.map_or(0, |file| file.blocks() * 512),
    });
    bytes.sum()
}

/// Since when the owner has been the same, and the other one ready.
#[derive(Debug, Default)]
struct Steady(Option<(usize, Instant)>);

impl Steady {
    fn since(&mut self, owner: Option<usize>, now: Instant) -> Option<Instant> {
        self.0 = owner.map(|owner| match self.0 {
            Some((before, since)) if before == owner => (owner, since),
            _ => (owner, now),
        });
        self.0.map(|(_, since)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_begins_anew_where_the_owner_is_another_one_or_nobody_is_ready() {
        let (mut steady, began) = (Steady::default(), Instant::now());
        let mut since = |owner, second| {
            let since = steady.since(owner, began + Duration::from_secs(second));
            since.map(|since| since.duration_since(began).as_secs())
        };
        assert_eq!(since(None, 0), None);
        assert_eq!(since(Some(1), 1), Some(1));
        assert_eq!(since(Some(1), 3), Some(1));
        assert_eq!(since(Some(0), 4), Some(4), "another one");
        assert_eq!(since(None, 5), None, "nobody is ready");
        assert_eq!(since(Some(0), 6), Some(6));
        assert_eq!(since(Some(0), 9), Some(6));
    }

    #[test]
    fn files_in_folders_of_a_folder_are_counted_and_what_is_not_there_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bytes_below(&folder.path().join("none")), 0);
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for name in ["one", "a/two", "a/b/three"] {
            let file = File::create(folder.path().join(name)).unwrap();
            std::io::Write::write_all(&mut &file, &[7; 10_000]).unwrap();
            file.sync_all().unwrap();
        }
        let found = bytes_below(folder.path());
        assert!((30_000..300_000).contains(&found), "{found}");
    }
}
