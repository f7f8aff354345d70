//! All at once, as a user has it: `alluvium publish --wait`, a process per file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use alluvium_model::{Clock, SystemClock};
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::engine::Turn;
use crate::meter::{Cost, Usage};

const SYSTEMS: &str = r#"{"systems": [{"name": "bench", "type": "push"}]}"#;

/// A folder to publish into, and the binary that does.
pub(crate) struct Whole {
    folder: PathBuf,
    alluvium: PathBuf,
}

impl Whole {
    pub(crate) fn new(folder: &Path, alluvium: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("systems.json"), SYSTEMS)?;
        fs::write(folder.join("entities.json"), include_str!("../entities.json"))?;
        fs::write(folder.join("alluvium.toml"), "")?;
        Ok(Self { folder: folder.to_owned(), alluvium: alluvium.to_owned() })
    }

    /// Publishes a file. Start and stop of the process count.
    pub(crate) fn file(&self, file: &Path) -> anyhow::Result<Turn> {
        let log = self.folder.join("engine.log");
        let started = SystemClock.instant();
        // What children have used is ours once they have ended, and we do nothing meanwhile.
        let (cpu, written) = (Usage::cpu_of_children(), Usage::of("self").written);
        let mut child = Command::new(&self.alluvium)
            .arg("-C")
            .arg(&self.folder)
            .args(["publish", "bench.customers"])
            .arg(file)
            .args(["--map", "op=op,sequence=seq,row=after", "--wait", "--quiet", "-o", "json"])
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.alluvium.display()))?;
        let mut last = Usage::default();
        let ended = loop {
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            let now = Usage::of(&child.id().to_string());
            if now.resident > 0 {
                last = now;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let wall = SystemClock.since(started);
        ensure!(ended.success(), "alluvium publish ended with {ended}: {}", last_line(&log));
        let cpu = Usage::cpu_of_children().saturating_sub(cpu);
        let written = Usage::of("self").written.saturating_sub(written);
        let cost = Cost { wall, cpu, written };
        let (resident, peak) = (last.resident, last.peak);
        Ok(Turn { cost, resident, peak, steps: Vec::new(), answer: Value::Null })
    }
}

/// What it said at last.
fn last_line(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    said.trim_end().lines().next_back().unwrap_or_default().to_owned()
}
