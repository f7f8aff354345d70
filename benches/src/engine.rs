//! An engine under measurement: a process of its own that is told a file per line and answers with
//! a line of JSON when all of it is durable. Ours and the peers are measured from outside, alike.
//!
//! Between its turns an engine is stopped: what it does beside its batches is on its own time.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use alluvium_model::{Clock, SystemClock};
use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::meter::{Cost, Usage, memory_left};

/// How often it is looked whether an engine is beyond its limits.
const LOOK: Duration = Duration::from_millis(50);

/// When an engine is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A turn takes longer.
    pub(crate) time: Duration,
    /// The machine has less memory left, in bytes.
    pub(crate) memory_left: u64,
}

impl Limits {
    pub(crate) const NONE: Self = Self { time: Duration::MAX, memory_left: 0 };
}

/// A step of a turn, as the engine itself measured it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) cost: Cost,
}

/// What one file cost.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) cost: Cost,
    /// Resident bytes at its end.
    pub(crate) resident: u64,
    /// The most resident bytes that the process had so far.
    pub(crate) peak: u64,
    pub(crate) steps: Vec<Step>,
    /// What the engine answered.
    pub(crate) answer: Value,
}

/// A running engine; it ends with this.
pub(crate) struct Engine {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    limits: Limits,
    log: PathBuf,
    /// What it calls itself, if it does.
    pub(crate) name: Option<String>,
    /// What it had used at the end of its last turn.
    used: Usage,
}

impl Engine {
    /// Starts it, and waits until it is ready. `log` gets what it says besides.
    pub(crate) fn start(mut command: Command, limits: Limits, log: &Path) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipe to {}", command.get_program().display());
        };
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let log = log.to_owned();
        let used = Usage::default();
        let mut engine = Self { child, input, answers, limits, log, name: None, used };
        let ready = engine.wait(SystemClock.instant())?;
        engine.name = ready["name"].as_str().map(str::to_owned);
        engine.used = engine.usage();
        engine.signal("STOP")?;
        Ok(engine)
    }

    /// Ours, in `folder`: all layers beside each other, or `apart`, one after the other.
    pub(crate) fn ours(folder: &Path, apart: bool, limits: Limits) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("engine").arg(folder);
        if apart {
            command.arg("--apart");
        }
        Self::start(command, limits, &folder.join("engine.log"))
    }

    /// Gives it a file.
    pub(crate) fn file(&mut self, file: &Path) -> anyhow::Result<Turn> {
        self.turn(&file.display().to_string())
    }

    /// Tells it something, and waits until it has done it.
    pub(crate) fn turn(&mut self, said: &str) -> anyhow::Result<Turn> {
        self.signal("CONT")?;
        let started = SystemClock.instant();
        writeln!(self.input, "{said}")
            .and_then(|()| self.input.flush())
            .context(self.last_words())?;
        let answer = self.wait(started)?;
        let wall = SystemClock.since(started);
        let used = self.usage();
        self.signal("STOP")?;
        let cost = used.since(self.used, wall);
        self.used = used;
        let steps = answer["steps"].as_array().into_iter().flatten();
        let step = |step: &Value| Step {
            name: step["step"].as_str().unwrap_or_default().to_owned(),
            cost: Cost::of_json(step),
        };
        let steps = steps.map(step).collect();
        Ok(Turn { cost, resident: used.resident, peak: used.peak, steps, answer })
    }

    /// Has it close what it has open, and waits until it has ended.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.signal("CONT")?;
        writeln!(self.input, "end")?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "it ended with {ended}: {}", self.last_words());
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::of(&self.child.id().to_string())
    }

    fn wait(&self, started: Instant) -> anyhow::Result<Value> {
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(line) => return Ok(serde_json::from_str(&line)?),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended: {}", self.last_words()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let time = self.limits.time.as_secs();
            ensure!(SystemClock.since(started).as_secs() < time, "it took more than {time} s");
            ensure!(memory_left() >= self.limits.memory_left, "memory ran out");
        }
    }

    fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines.clone().rfind(|line| line.contains("rror"));
        error.or(lines.next_back()).unwrap_or("without a word").to_owned()
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status()?;
        ensure!(sent.success(), "it ended: {}", self.last_words());
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What it wrote is thrown away; it may be stopped, or beyond its limits. One that has been
        // waited for is not killed again.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("an engine did not end: {error}");
        }
    }
}
