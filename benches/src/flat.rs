//! Whether the cost of a batch grows with the table: the same batches of updates of uniformly
//! random keys, upkeep included, on tables of several sizes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Engine, Limits, Turn};
use crate::meter::{Cost, quantile};
use crate::report::{Report, Table, megabytes, ratio, seconds};
use crate::workload::{Lines, Workload};

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rows of the tables.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000")]
    sizes: Vec<u64>,
    /// Batches that are measured.
    #[arg(long, default_value_t = 60)]
    batches: u64,
    /// Batches before them, until deletes and compaction are in balance.
    #[arg(long, default_value_t = 25)]
    warm: u64,
    /// Updates in a batch, each of another key.
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
}

/// What was found at one size.
struct Size {
    rows: u64,
    load: Turn,
    batches: Vec<Turn>,
}

impl Size {
    fn mean(&self) -> Cost {
        Cost::mean(self.batches.iter().map(|turn| &turn.cost))
    }

    fn wall(&self, part: f64) -> Duration {
        quantile(self.batches.iter().map(|turn| turn.cost.wall).collect(), part)
    }
}

pub(crate) fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Report> {
    let mut sizes = Vec::new();
    for rows in &args.sizes {
        let folder = tempfile::tempdir_in(scratch)?;
        sizes.push(at_size(args, *rows, folder.path())?);
    }
    Ok(report(args, &sizes))
}

fn at_size(args: &Args, rows: u64, folder: &Path) -> anyhow::Result<Size> {
    let mut workload = Workload::new();
    let file = folder.join("changes.ndjson");
    let mut engine = Engine::ours(&folder.join("ours"), true, Limits::NONE)?;
    eprintln!("{rows} rows: loading");
    workload.write(&file, Lines::Load(rows))?;
    let load = engine.file(&file)?;
    engine.turn("settle")?;
    let mut batches = Vec::new();
    for batch in 1..=args.warm + args.batches {
        workload.write(&file, Lines::Updates(args.changes))?;
        let turn = engine.file(&file)?;
        if batch % 10 == 0 {
            let of = args.warm + args.batches;
            eprintln!("{rows} rows: batch {batch} of {of}, {} s", seconds(turn.cost.wall));
        }
        if batch > args.warm {
            batches.push(turn);
        }
    }
    Ok(Size { rows, load, batches })
}

fn report(args: &Args, sizes: &[Size]) -> Report {
    let title = format!(
        "{} batches of {} updates of random keys, after {} that do not count; upkeep included",
        args.batches, args.changes, args.warm
    );
    let json = json!({
        "batches": args.batches,
        "changes": args.changes,
        "sizes": sizes.iter().map(as_json).collect::<Vec<_>>(),
    });
    let notes = vec![
        "A batch: median, 95th percentile and mean time, mean processor time, mean bytes written. \
         Times: of the first size."
            .to_owned(),
    ];
    let tables = vec![costs(sizes), steps(sizes)];
    Report { title, tables, notes, findings: Vec::new(), json }
}

fn costs(sizes: &[Size]) -> Table {
    let mut table = Table::new(&[
        "rows", "load s", "load MB", "median s", "times", "p95 s", "mean s", "times", "cpu s",
        "times", "MB", "times", "peak MB",
    ]);
    let Some(first) = sizes.first() else { return table };
    for size in sizes {
        let (mean, least) = (size.mean(), first.mean());
        let times = |time: Duration, of: Duration| ratio(time.as_secs_f64(), of.as_secs_f64());
        let peak = size.batches.last().map_or(size.load.peak, |turn| turn.peak);
        table.row(vec![
            size.rows.to_string(),
            seconds(size.load.cost.wall),
            megabytes(size.load.cost.written),
            seconds(size.wall(0.5)),
            times(size.wall(0.5), first.wall(0.5)),
            seconds(size.wall(0.95)),
            seconds(mean.wall),
            times(mean.wall, least.wall),
            seconds(mean.cpu),
            times(mean.cpu, least.cpu),
            megabytes(mean.written),
            ratio(mean.written as f64, least.written as f64),
            (peak / 1_000_000).to_string(),
        ]);
    }
    table
}

/// Means of each step. What is done beside the batches counts where it happens to be done.
fn steps(sizes: &[Size]) -> Table {
    let mut table = Table::new(&["rows, step", "mean s", "cpu s", "MB"]);
    for size in sizes {
        for (name, mean) in means(size) {
            table.row(vec![
                format!("{}, {name}", size.rows),
                seconds(mean.wall),
                seconds(mean.cpu),
                megabytes(mean.written),
            ]);
        }
    }
    table
}

fn means(size: &Size) -> Vec<(String, Cost)> {
    let names = size.load.steps.iter().map(|step| step.name.clone()).enumerate();
    let mean = |at: usize| {
        let steps = size.batches.iter().filter_map(|turn| turn.steps.get(at));
        Cost::mean(steps.map(|step| &step.cost))
    };
    names.map(|(at, name)| (name, mean(at))).collect()
}

fn as_json(size: &Size) -> Value {
    let steps: serde_json::Map<_, _> =
        means(size).into_iter().map(|(name, mean)| (name, mean.to_json())).collect();
    json!({
        "rows": size.rows,
        "load": size.load.cost.to_json(),
        "median_seconds": size.wall(0.5).as_secs_f64(),
        "mean": size.mean().to_json(),
        "mean_of_steps": steps,
        "batches": size.batches.iter().map(|turn| turn.cost.to_json()).collect::<Vec<_>>(),
        "peak_bytes": size.batches.last().map(|turn| turn.peak),
    })
}
