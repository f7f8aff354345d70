//! The workers: processes of the binary under test, and what is done to them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

use alluvium_testkit::signal;

use super::ground::Ground;
use super::sources;

/// What a worker is started for.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// `alluvium run`.
    Run,
    /// `alluvium publish`, until the layers have it.
    Publish(sources::File),
    /// `alluvium maintain`.
    Maintain,
}

impl Job {
    /// The command line.
    pub(crate) fn args(&self) -> Vec<String> {
        let words: Vec<&str> = match self {
            Self::Run => vec!["run"],
            Self::Maintain => vec!["maintain"],
            Self::Publish(file) => {
                let key = if file.entity.ends_with("payments") { PAIR } else { SINGLE };
                let path = file.path.to_str().unwrap();
                vec!["publish", &file.entity, path, "--wait", "--map", key]
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

const SINGLE: &str = "op=op,sequence=seq,key=after.id,row=after";
const PAIR: &str = "op=op,sequence=seq,key=after.region+after.id,row=after";

/// A worker.
pub(crate) struct Worker {
    /// What it was started for.
    pub job: Job,
    /// Whose data folder it works in.
    pub slot: u64,
    /// Whether it may fail, because something that it needs was taken from it.
    pub excused: bool,
    /// When it was started.
    pub started: Instant,
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts one; `number` names its log.
    pub(crate) fn start(ground: &Ground, job: Job, slot: u64, number: u64) -> Self {
        let args = job.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let log = log(ground.folder(), number);
        let file = File::create(&log).unwrap();
        let child = ground
            .command(&args, slot)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        // Old ones tell nothing of what is wrong now.
        if number > KEPT {
            drop(std::fs::remove_file(self::log(ground.folder(), number - KEPT)));
        }
        Self { job, slot, excused: false, started: Instant::now(), child, log }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it with SIGKILL; true if it was still there.
    pub(crate) fn kill(&mut self) -> bool {
        let there = self.ended().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        there
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        // It may have ended by itself just now.
        signal(self.child.id(), name);
    }

    /// The most memory that it had so far, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
    }

    /// What it said.
    pub(crate) fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of what it said.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("{:?}, {:?} after its start:\n{last}", self.job, self.started.elapsed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// So many logs are kept.
const KEPT: u64 = 30;

fn log(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("worker-{number}.log"))
}
