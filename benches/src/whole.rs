//! All at once, as a user has it: `alluvium publish --wait`, a process per file.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::meter::{Meter, Row, cpu_of};
use crate::workload::Lines;

const SYSTEMS: &str = r#"{"systems": [{"name": "bench", "type": "push"}]}"#;

/// Measures the first load, and the batches after it.
pub(crate) fn measure(
    folder: &Path,
    alluvium: &Path,
    first: &Lines,
    batches: &[Lines],
) -> anyhow::Result<Vec<Row>> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("systems.json"), SYSTEMS)?;
    std::fs::write(folder.join("entities.json"), include_str!("../entities.json"))?;
    std::fs::write(folder.join("alluvium.toml"), "")?;
    let mut rows = vec![publish(folder, alluvium, first, "first: the whole".to_owned())?];
    let mut medians = Vec::new();
    for batch in batches {
        medians.push(publish(folder, alluvium, batch, String::new())?);
    }
    medians.sort_by_key(|row| row.wall);
    if !medians.is_empty() {
        let mut median = medians.swap_remove(medians.len() / 2);
        median.step = "one batch: the whole".to_owned();
        rows.push(median);
    }
    Ok(rows)
}

fn publish(folder: &Path, alluvium: &Path, lines: &Lines, step: String) -> anyhow::Result<Row> {
    let file = folder.join("lines.ndjson");
    std::fs::write(&file, &lines.bytes)?;
    let meter = Meter::start();
    let before = children_cpu();
    let mut child = Command::new(alluvium)
        .arg("-C")
        .arg(folder)
        .args(["publish", "bench.customers"])
        .arg(&file)
        .args(["--map", "op=op,sequence=seq,row=after", "--wait", "--quiet", "-o", "json"])
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", alluvium.display()))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = high.and_then(|h| h.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(kb.unwrap_or(0) / 1024);
        std::thread::sleep(Duration::from_millis(10));
    };
    ensure!(ended.success(), "alluvium publish ended with {ended}");
    let mut row = meter.stop(step, lines.records);
    row.cpu = children_cpu().saturating_sub(before);
    row.peak_mb = Some(peak);
    Ok(row)
}

/// Processor time of children that have ended.
fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_of(&stat, 13)
}
