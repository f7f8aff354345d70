//! What the key index needs for a million keys: on disk after a load and after batches of updates,
//! and in the memory of a process that opens it and looks keys up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alluvium_lake::index::IndexStore;
use alluvium_model::{Clock, SystemClock};
use anyhow::ensure;
use serde_json::{Value, json};

use crate::engine::{Engine, Limits};
use crate::meter::{Usage, quantile};
use crate::ours;
use crate::report::{Report, Table, megabytes};
use crate::workload::{Lines, Workload};

/// So many keys are looked up at once, and so often.
const LOOKUP: u64 = 10_000;
const LOOKUPS: u64 = 10;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys of the index.
    #[arg(long, value_delimiter = ',', default_value = "1000000,5000000")]
    sizes: Vec<u64>,
    /// Batches of updates after the load: each update adds a closed version.
    #[arg(long, default_value_t = 20)]
    batches: u64,
    /// Updates in a batch.
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
}

pub(crate) fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Report> {
    let mut found = Vec::new();
    for keys in &args.sizes {
        let folder = tempfile::tempdir_in(scratch)?;
        found.push(at_size(args, *keys, folder.path())?);
    }
    let title = format!("the key index, then {} batches of {} updates", args.batches, args.changes);
    let mut table = Table::new(&[
        "keys",
        "disk MB",
        "bytes/key",
        "after updates MB",
        "bytes/version",
        "opened MB",
        "after lookups MB",
        "MB/million keys",
        "10,000 lookups ms",
    ]);
    found.iter().for_each(|size| table.row(row(size)));
    let notes = vec![
        "Memory: what a process grows by that opens the index, and then looks up 100,000 keys all \
         over it."
            .to_owned(),
    ];
    let json = json!({"sizes": found});
    Ok(Report { title, tables: vec![table], notes, findings: Vec::new(), json })
}

fn at_size(args: &Args, keys: u64, folder: &Path) -> anyhow::Result<Value> {
    let mut workload = Workload::new();
    let (file, ours) = (folder.join("changes.ndjson"), folder.join("ours"));
    let index = ours.join("index");
    let mut engine = Engine::ours(&ours, true, Limits::NONE)?;
    eprintln!("{keys} keys: loading");
    workload.write(&file, Lines::Load(keys))?;
    engine.file(&file)?;
    engine.end()?;
    let mut size = opened(&index, keys)?;
    size["disk_bytes"] = bytes_below(&index)?.into();
    let mut engine = Engine::ours(&ours, true, Limits::NONE)?;
    eprintln!("{keys} keys: {} batches of updates", args.batches);
    for _ in 0..args.batches {
        workload.write(&file, Lines::Updates(args.changes))?;
        engine.file(&file)?;
    }
    engine.end()?;
    opened(&index, keys)?;
    size["disk_bytes_after_updates"] = bytes_below(&index)?.into();
    size["versions"] = (args.batches * args.changes).into();
    Ok(size)
}

/// Has a process of its own open the index and look keys up.
fn opened(index: &Path, keys: u64) -> anyhow::Result<Value> {
    let program = std::env::current_exe()?;
    let opened =
        Command::new(program).arg("open-index").arg(index).arg(keys.to_string()).output()?;
    ensure!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    Ok(serde_json::from_slice(&opened.stdout)?)
}

/// What that process does.
pub(crate) fn open(path: &Path, keys: u64) -> anyhow::Result<Value> {
    let before = Usage::of("self").resident;
    let store = IndexStore::open(path)?;
    let index = store.entity(&ours::entity()?.id())?;
    let opened = Usage::of("self").resident;
    // Keys are hashes, so that any of them are all over the index.
    let every = (keys / (LOOKUP * LOOKUPS)).max(1) as usize;
    let sample = index.states().step_by(every).map(|state| state.map(|(key, _)| key));
    let sample = sample.collect::<Result<Vec<_>, _>>()?;
    let mut times = Vec::new();
    for turn in 0..LOOKUPS as usize {
        let wanted: Vec<_> = sample.iter().skip(turn).step_by(LOOKUPS as usize).copied().collect();
        let started = SystemClock.instant();
        let found = index.current(&wanted)?;
        times.push(SystemClock.since(started));
        ensure!(found.iter().all(Option::is_some), "the index does not find its own keys");
    }
    let looked_up = Usage::of("self").resident;
    Ok(json!({
        "keys": keys,
        "opened_bytes": opened.saturating_sub(before),
        "looked_up_bytes": looked_up.saturating_sub(before),
        "lookup_seconds": quantile(times, 0.5).as_secs_f64(),
    }))
}

/// What the files of a folder take on the disk.
fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(bytes)
}

fn row(size: &Value) -> Vec<String> {
    let number = |name: &str| size[name].as_u64().unwrap_or(0);
    let (keys, disk, after) =
        (number("keys"), number("disk_bytes"), number("disk_bytes_after_updates"));
    let looked_up = number("looked_up_bytes");
    let lookup = Duration::from_secs_f64(size["lookup_seconds"].as_f64().unwrap_or(0.0));
    vec![
        keys.to_string(),
        megabytes(disk),
        (disk / keys.max(1)).to_string(),
        megabytes(after),
        (after.saturating_sub(disk) / number("versions").max(1)).to_string(),
        megabytes(number("opened_bytes")),
        megabytes(looked_up),
        format!("{:.1}", looked_up as f64 / keys.max(1) as f64),
        format!("{:.1}", lookup.as_secs_f64() * 1e3),
    ]
}
