//! Whether a commit stays as fast, and memory as small, over many of them on one table.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Engine, Limits, Turn};
use crate::meter::{Cost, quantile};
use crate::report::{Report, Table, megabytes, ratio};
use crate::workload::{Lines, Workload};

/// The step that is silver's commit: look up, plan, write, log entry, index.
const SILVER: usize = 3;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rows of the first load.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Commits after it.
    #[arg(long, default_value_t = 10_000)]
    commits: usize,
    /// Changes in each: 80 % updates, 15 % inserts, 5 % deletes.
    #[arg(long, default_value_t = 100)]
    changes: u64,
    /// Commits that are looked at together.
    #[arg(long, default_value_t = 1_000)]
    window: usize,
}

/// Some commits, one after the other.
struct Window {
    last: usize,
    silver: Vec<Duration>,
    all: Vec<Duration>,
    mean: Cost,
    resident: u64,
    peak: u64,
}

impl Window {
    fn of(last: usize, turns: &[Turn]) -> Self {
        let silver = |turn: &Turn| turn.steps.get(SILVER).map(|step| step.cost.wall);
        let end = turns.last();
        Self {
            last,
            silver: turns.iter().filter_map(silver).collect(),
            all: turns.iter().map(|turn| turn.cost.wall).collect(),
            mean: Cost::mean(turns.iter().map(|turn| &turn.cost)),
            resident: end.map_or(0, |turn| turn.resident),
            peak: end.map_or(0, |turn| turn.peak),
        }
    }
}

pub(crate) fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Report> {
    let mut workload = Workload::new();
    let file = scratch.join("changes.ndjson");
    let mut engine = Engine::ours(&scratch.join("ours"), true, Limits::NONE)?;
    eprintln!("loading {} rows", args.rows);
    workload.write(&file, Lines::Load(args.rows))?;
    engine.file(&file)?;
    let (mut windows, mut turns) = (Vec::new(), Vec::new());
    for commit in 1..=args.commits {
        workload.write(&file, Lines::Mixed(args.changes))?;
        turns.push(engine.file(&file)?);
        if turns.len() >= args.window || commit == args.commits {
            let window = Window::of(commit, &turns);
            turns.clear();
            eprintln!("{commit} of {}: {} ms", args.commits, milliseconds(&window.silver, 0.5));
            windows.push(window);
        }
    }
    Ok(report(args, &windows))
}

fn report(args: &Args, windows: &[Window]) -> Report {
    let title = format!(
        "{} commits of {} changes, on a table of {} rows; upkeep included",
        args.commits, args.changes, args.rows
    );
    let json = json!({
        "rows": args.rows,
        "commits": args.commits,
        "changes": args.changes,
        "windows": windows.iter().map(as_json).collect::<Vec<_>>(),
    });
    let mut table = Table::new(&[
        "commits",
        "silver ms",
        "p99 ms",
        "all ms",
        "p99 ms",
        "mean ms",
        "cpu ms",
        "kB",
        "MB now",
        "peak MB",
    ]);
    windows.iter().for_each(|window| table.row(row(window)));
    if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
        table.row(times(first, last));
    }
    let notes = vec![
        "Medians and 99th percentiles of silver alone and of all layers with upkeep; means of time, \
         processor time and bytes written; resident memory at the end of the window."
            .to_owned(),
    ];
    Report { title, tables: vec![table], notes, findings: Vec::new(), json }
}

fn row(window: &Window) -> Vec<String> {
    vec![
        window.last.to_string(),
        milliseconds(&window.silver, 0.5),
        milliseconds(&window.silver, 0.99),
        milliseconds(&window.all, 0.5),
        milliseconds(&window.all, 0.99),
        format!("{:.1}", window.mean.wall.as_secs_f64() * 1e3),
        format!("{:.1}", window.mean.cpu.as_secs_f64() * 1e3),
        (window.mean.written / 1_000).to_string(),
        megabytes(window.resident),
        megabytes(window.peak),
    ]
}

/// The last window as so many times the first.
fn times(first: &Window, last: &Window) -> Vec<String> {
    let wall = |of: fn(&Window) -> &Vec<Duration>, part: f64| {
        let quantile = |window| quantile(of(window).clone(), part).as_secs_f64();
        ratio(quantile(last), quantile(first))
    };
    let number = |of: fn(&Window) -> f64| ratio(of(last), of(first));
    vec![
        "last / first".to_owned(),
        wall(|window| &window.silver, 0.5),
        wall(|window| &window.silver, 0.99),
        wall(|window| &window.all, 0.5),
        wall(|window| &window.all, 0.99),
        number(|window| window.mean.wall.as_secs_f64()),
        number(|window| window.mean.cpu.as_secs_f64()),
        number(|window| window.mean.written as f64),
        number(|window| window.resident as f64),
        number(|window| window.peak as f64),
    ]
}

fn milliseconds(times: &[Duration], part: f64) -> String {
    format!("{:.1}", quantile(times.to_vec(), part).as_secs_f64() * 1e3)
}

fn as_json(window: &Window) -> Value {
    let at = |times: &[Duration], part| quantile(times.to_vec(), part).as_secs_f64();
    json!({
        "commits": window.last,
        "silver_median_seconds": at(&window.silver, 0.5),
        "silver_p99_seconds": at(&window.silver, 0.99),
        "all_median_seconds": at(&window.all, 0.5),
        "all_p99_seconds": at(&window.all, 0.99),
        "mean": window.mean.to_json(),
        "resident_bytes": window.resident,
        "peak_bytes": window.peak,
    })
}
