//! The workers: processes of the binary under test, and what is done to them.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

use alluvium_testkit::signal;

use super::ground::Ground;
use super::sources;
use crate::memory::peak;

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

/// Until when a worker may end by itself, because something that it needs was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// Nothing was.
    Never,
    /// Until it is at work: who starts may give up, who works has to wait.
    Start,
    /// As long as it lives.
    Always,
}

/// What a worker says that has got work: a lease, or a run.
const AT_WORK: [&str; 2] = [": taken up", ": run started"];
/// What one says that finds the disk full.
const NO_ROOM: [&str; 2] = ["no room left", "No space left"];

/// A worker.
pub(crate) struct Worker {
    /// What it was started for.
    pub job: Job,
    /// Whose data folder it works in.
    pub slot: u64,
    /// When it was started.
    pub started: Instant,
    excuse: Excuse,
    child: Child,
    /// Open, so that it can be read as long as the worker lives.
    log: File,
}

impl Worker {
    /// Starts one; `number` names its log.
    pub(crate) fn start(ground: &Ground, job: Job, slot: u64, number: u64) -> Self {
        let args = job.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let path = log(ground.folder(), number);
        let file = File::create(&path).unwrap();
        let child = ground
            .command(&args, slot)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        // Old ones tell nothing of what is wrong now.
        if number > KEPT {
            drop(std::fs::remove_file(log(ground.folder(), number - KEPT)));
        }
        let log = File::open(&path).unwrap();
        Self { job, slot, started: Instant::now(), excuse: Excuse::Never, child, log }
    }

    /// Whether it works until it is told to stop.
    pub(crate) fn stays(&self) -> bool {
        matches!(self.job, Job::Run)
    }

    /// From now on it may end by itself, in as far as it might not before.
    pub(crate) fn excuse(&mut self, excuse: Excuse) {
        self.excuse = self.excuse.max(excuse);
    }

    /// Whether it may end by itself, and badly.
    pub(crate) fn may_fail(&self) -> bool {
        match self.excuse {
            Excuse::Never => false,
            Excuse::Start => !self.is_at_work(),
            Excuse::Always => true,
        }
    }

    /// Whether it has got work since its start.
    pub(crate) fn is_at_work(&self) -> bool {
        self.has_said(&AT_WORK)
    }

    /// Whether it has found the disk full.
    pub(crate) fn has_no_room(&self) -> bool {
        self.has_said(&NO_ROOM)
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
        peak(self.child.id())
    }

    /// Whether it said one of these.
    pub(crate) fn has_said(&self, words: &[&str]) -> bool {
        let said = self.said();
        words.iter().any(|word| said.contains(word))
    }

    /// What it said.
    fn said(&self) -> String {
        let (mut log, mut bytes) = (&self.log, Vec::new());
        log.rewind().unwrap();
        log.read_to_end(&mut bytes).unwrap();
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
