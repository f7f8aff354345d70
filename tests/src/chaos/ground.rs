//! What stands beneath the workers: the project's folder, a disk of its own for the data, and the
//! servers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::options::{Ledger, Options};
use super::servers::Servers;
use super::sources::Sources;
use crate::memory::peak;
use crate::{SmallDisk, TestPlatform};

/// The disk has so much room, in MiB, where it is not full.
const ROOM: u32 = 4_096;

/// How long a worker that is gone keeps its work: as short as can be, so that others go on soon.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Retention is short, so that raw must be read again; batches and files are small, so that there are
/// many commits and much upkeep.
const SETTINGS: &str = r#"
[http]
enabled = false
[log]
filter = "info,alluvium::audit=warn,buoyant_kernel=warn,delta_kernel=warn,fjall=warn,lsm_tree=warn"
[bus.embedded]
retention_bytes = "1MB"
retention_time = "2s"
[layers]
batch_records = 3000
raw_linger_time = "400ms"
raw_linger_bytes = "256KB"
[maintenance]
checkpoint_commits = 10
files_merged = 4
file_bytes = "1MB"
garbage_age = "20s"
log_retention = "30s"
[runtime]
drain_time = "5s"
[runtime.retry]
initial = "50ms"
max = "1s"
"#;

/// So often a command is looked at.
const MOMENT: Duration = Duration::from_millis(5);

/// The exit code of a command that was killed.
const KILLED: i32 = 137;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; 137 for a signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub rows: String,
    /// What it wrote to stderr.
    pub said: String,
    /// The most memory that it had, in KiB.
    pub memory: u64,
}

/// A platform for workers.
pub(crate) struct Ground {
    project: TestPlatform,
    disk: Option<SmallDisk>,
    /// The servers.
    pub servers: Servers,
    /// Whether several processes work, each in a data folder of its own.
    shared: bool,
    /// The ledger's file, if it is one.
    ledger: Option<PathBuf>,
}

impl Ground {
    /// A folder on a disk of its own, where one can be had, and the servers.
    pub(crate) fn new(options: &Options) -> Self {
        let disk = SmallDisk::in_sight(ROOM * 1024);
        if disk.is_none() {
            eprintln!("no disk gets full");
        }
        let (servers, shared) = (Servers::start(options), options.bus.is_shared());
        let mut ground =
            Self { project: TestPlatform::empty(), disk, servers, shared, ledger: None };
        if options.ledger == Ledger::Sqlite {
            ground.ledger = Some(ground.data().join("ledger.db"));
        }
        ground
    }

    /// The project's folder, which is not on the disk.
    pub(crate) fn folder(&self) -> &Path {
        self.project.folder()
    }

    /// The data folder of a worker.
    pub(crate) fn data_of(&self, slot: u64) -> PathBuf {
        if self.shared { self.data().join(format!("worker-{slot}")) } else { self.data() }
    }

    /// The folder of all data.
    fn data(&self) -> PathBuf {
        self.disk
            .as_ref()
            .map_or_else(|| self.folder().join("data"), |disk| disk.path().join("data"))
    }

    /// Writes settings and metadata.
    pub(crate) fn settle(&self, sources: &Sources) {
        let (systems, entities) = sources.metadata();
        let mut settings = format!("data = {:?}\n{SETTINGS}", self.data());
        settings += &format!("[lake]\npath = {:?}\n", self.data().join("lake"));
        settings += &self.servers.settings();
        if let Some(path) = &self.ledger {
            settings += &format!("[ledger]\npath = {path:?}\n");
        }
        self.project.write("alluvium.toml", &settings);
        self.project.write("systems.json", &systems.to_string());
        self.project.write("entities.json", &entities.to_string());
    }

    /// The disk, if it can be filled.
    pub(crate) fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// The disk has room again.
    pub(crate) fn make_room(&self) {
        if let Some(disk) = &self.disk {
            disk.make_room_for(ROOM);
        }
    }

    /// A command in a worker's data folder, ready to be run.
    pub(crate) fn command(&self, args: &[&str], slot: u64) -> Command {
        self.leased(args, slot, LEASE)
    }

    fn leased(&self, args: &[&str], slot: u64, lease: Duration) -> Command {
        let data = format!("data={}", self.data_of(slot).display());
        let lease = format!("runtime.lease_time={}s", lease.as_secs());
        self.project.command(&[args, &["--set", &data, "--set", &lease]].concat())
    }

    /// Runs to the end. Who is not done after so many seconds is killed. Nobody else does that, so that
    /// its leases may be long, and hold also where the machine is busy.
    pub(crate) fn run(&self, args: &[&str], seconds: u64) -> Ended {
        let path = |name: &str| self.folder().join(name);
        let (rows, said) = (path("command-rows.txt"), path("command-said.txt"));
        let mut command = self.leased(args, 0, Duration::from_secs(30));
        command.stdout(File::create(&rows).unwrap()).stderr(File::create(&said).unwrap());
        let (mut child, mut memory) = (command.spawn().unwrap(), 0_u64);
        let until = Instant::now() + Duration::from_secs(seconds);
        let status = loop {
            memory = memory.max(peak(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                child.kill().unwrap();
            }
            std::thread::sleep(MOMENT);
        };
        let text =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let code = status.code().unwrap_or(KILLED);
        Ended { code, rows: text(&rows), said: text(&said), memory }
    }

    /// Keeps everything there is, and says where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.project.keep(true);
        let folder = self.folder().to_owned();
        if self.disk.is_some() {
            let copied =
                Command::new("cp").arg("-a").args([self.data(), folder.join("data")]).status();
            if !copied.is_ok_and(|status| status.success()) {
                eprintln!("{} could not be copied", self.data().display());
            }
        }
        folder
    }
}
