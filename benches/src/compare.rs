//! Ours and the peers beside each other: the same files, in turns, one engine at a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::engine::{Engine, Limits, Step, Turn};
use crate::meter::{Cost, quantile};
use crate::report::{Report, Table, megabytes, ratio, seconds};
use crate::whole::Whole;
use crate::workload::{Lines, Workload};

/// What is measured, and with whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rows of the first load.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Batches of changes after it.
    #[arg(long, default_value_t = 10)]
    batches: u64,
    /// Changes in a batch: 80 % updates, 15 % inserts, 5 % deletes.
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
    /// Peers: duckdb, delta-rs, dlt, dbt; `none` for ours alone.
    #[arg(long, value_delimiter = ',', default_value = "duckdb,delta-rs")]
    peers: Vec<String>,
    /// What starts a peer: it is given the name of one, and a folder.
    #[arg(long, default_value = "benches/peers/start.sh")]
    peers_by: PathBuf,
    /// Seconds that an engine may take for one file.
    #[arg(long, default_value_t = 900)]
    most_seconds: u64,
    /// An engine is ended when the machine has less memory left than so many MB.
    #[arg(long, default_value_t = 1_500)]
    leave_memory: u64,
    /// The `alluvium` binary; the one beside this program if left out.
    #[arg(long)]
    alluvium: Option<PathBuf>,
}

/// Who takes files.
enum Taker {
    Lasting(Engine),
    Each(Whole),
}

impl Taker {
    fn file(&mut self, file: &Path) -> anyhow::Result<Turn> {
        match self {
            Self::Lasting(engine) => engine.file(file),
            Self::Each(whole) => whole.file(file),
        }
    }
}

/// Someone in the comparison, and what was found.
struct Contender {
    name: String,
    /// Or why it is out.
    taker: Result<Taker, String>,
    turns: Vec<Turn>,
    /// Rows of its table in the end, and those of them that are open.
    rows: Option<(u64, u64)>,
}

impl Contender {
    fn new(name: &str, taker: anyhow::Result<Taker>) -> Self {
        let taker = taker.map_err(|error| format!("{error:#}"));
        Self { name: name.to_owned(), taker, turns: Vec::new(), rows: None }
    }

    fn file(&mut self, file: &Path) {
        let Ok(taker) = &mut self.taker else { return };
        eprintln!("  {}", self.name);
        match taker.file(file) {
            Ok(turn) => self.turns.push(turn),
            Err(error) => self.taker = Err(format!("{error:#}")),
        }
    }

    fn count(&mut self) {
        let Ok(Taker::Lasting(engine)) = &mut self.taker else { return };
        let number = |answer: &Value, name: &str| answer[name].as_u64();
        match engine.turn("rows") {
            Ok(Turn { answer, .. }) => {
                self.rows = number(&answer, "rows").zip(number(&answer, "open"));
            }
            Err(error) => self.taker = Err(format!("{error:#}")),
        }
    }

    fn first(&self) -> Option<&Turn> {
        self.turns.first()
    }

    fn batches(&self) -> &[Turn] {
        self.turns.get(1..).unwrap_or_default()
    }

    /// Median time of a batch, and zero if there was none.
    fn median(&self) -> Duration {
        quantile(self.batches().iter().map(|turn| turn.cost.wall).collect(), 0.5)
    }

    fn peak(&self) -> u64 {
        self.turns.iter().map(|turn| turn.peak).max().unwrap_or(0)
    }
}

/// Measures all of them in one run.
pub(crate) fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Report> {
    let mut all = contenders(args, scratch)?;
    let mut workload = Workload::new();
    let file = scratch.join("changes.ndjson");
    for batch in 0..=args.batches {
        let lines = match batch {
            0 => Lines::Load(args.rows),
            _ => Lines::Mixed(args.changes),
        };
        eprintln!("{} of {}: {lines:?}", batch, args.batches);
        workload.write(&file, lines)?;
        let count = all.len();
        // Nobody is always the first to read the file.
        for turn in 0..count {
            // What others left for the disk to do is done on nobody's time.
            Command::new("sync").status().context("cannot run sync")?;
            all[(turn + batch as usize) % count].file(&file);
        }
    }
    all.iter_mut().for_each(Contender::count);
    Ok(report(args, &all))
}

fn contenders(args: &Args, scratch: &Path) -> anyhow::Result<Vec<Contender>> {
    let limits = Limits {
        time: Duration::from_secs(args.most_seconds),
        memory_left: args.leave_memory * 1_000_000,
    };
    let alluvium = match &args.alluvium {
        Some(alluvium) => alluvium.clone(),
        None => std::env::current_exe()?.with_file_name("alluvium"),
    };
    let ours = |apart| Engine::ours(&scratch.join(format!("ours-{apart}")), apart, limits);
    let mut all = vec![
        Contender::new("alluvium, running", ours(false).map(Taker::Lasting)),
        Contender::new("alluvium publish --wait", {
            Whole::new(&scratch.join("whole"), &alluvium).map(Taker::Each)
        }),
        Contender::new("alluvium, step by step", ours(true).map(Taker::Lasting)),
    ];
    for peer in args.peers.iter().filter(|name| *name != "none") {
        eprintln!("starting {peer}");
        let folder = scratch.join(peer);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut command = Command::new(&args.peers_by);
        command.arg(peer).arg(&folder);
        let engine = Engine::start(command, limits, &folder.join("engine.log"));
        let name = engine.as_ref().ok().and_then(|engine| engine.name.clone());
        all.push(Contender::new(name.as_ref().unwrap_or(peer), engine.map(Taker::Lasting)));
    }
    Ok(all)
}

fn report(args: &Args, all: &[Contender]) -> Report {
    let title = format!(
        "{} rows at first, then {} batches of {} changes: 80 % updates, 15 % inserts, 5 % deletes",
        args.rows, args.batches, args.changes
    );
    let json = json!({
        "rows": args.rows,
        "batches": args.batches,
        "changes": args.changes,
        "engines": all.iter().map(as_json).collect::<Vec<_>>(),
    });
    let tables = vec![engines(all), steps(all, args.rows)];
    Report { title, tables, notes: notes(all), findings: Vec::new(), json }
}

fn engines(all: &[Contender]) -> Table {
    let mut table = Table::new(&[
        "engine",
        "first s",
        "times",
        "batch s",
        "times",
        "first cpu s",
        "batch cpu s",
        "first MB",
        "batch MB",
        "peak MB",
        "rows",
        "open",
    ]);
    let Some(ours) = all.first() else { return table };
    let first_of = |one: &Contender| one.first().map_or(Duration::ZERO, |turn| turn.cost.wall);
    for one in all {
        let times = |time: Duration, of: Duration| ratio(time.as_secs_f64(), of.as_secs_f64());
        let cost = |found: bool, text: String| if found { text } else { "-".to_owned() };
        let first = one.first().map(|turn| turn.cost).unwrap_or_default();
        let mean = Cost::mean(one.batches().iter().map(|turn| &turn.cost));
        let (has_first, has_batch) = (one.first().is_some(), !one.batches().is_empty());
        let rows = |of: fn((u64, u64)) -> u64| one.rows.map(of).map(|rows| rows.to_string());
        table.row(vec![
            one.name.clone(),
            cost(has_first, seconds(first.wall)),
            times(first.wall, first_of(ours)),
            cost(has_batch, seconds(one.median())),
            times(one.median(), ours.median()),
            cost(has_first, format!("{:.2}", first.cpu.as_secs_f64())),
            cost(has_batch, seconds(mean.cpu)),
            cost(has_first, megabytes(first.written)),
            cost(has_batch, megabytes(mean.written)),
            cost(has_first, (one.peak() / 1_000_000).to_string()),
            rows(|rows| rows.0).unwrap_or_else(|| "-".to_owned()),
            rows(|rows| rows.1).unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

/// The steps of whoever tells them.
fn steps(all: &[Contender], rows: u64) -> Table {
    let mut table =
        Table::new(&["step", "first s", "cpu s", "MB", "rows/s", "batch s", "cpu s", "MB"]);
    for one in all {
        let Some(first) = one.first() else { continue };
        for (at, Step { name, cost }) in first.steps.iter().enumerate() {
            let of_batches: Vec<_> =
                one.batches().iter().filter_map(|turn| turn.steps.get(at)).collect();
            let walls = of_batches.iter().map(|step| step.cost.wall).collect();
            let mean = Cost::mean(of_batches.iter().map(|step| &step.cost));
            table.row(vec![
                name.clone(),
                seconds(cost.wall),
                format!("{:.2}", cost.cpu.as_secs_f64()),
                megabytes(cost.written),
                format!("{:.0}", rows as f64 / cost.wall.as_secs_f64().max(1e-9)),
                seconds(quantile(walls, 0.5)),
                seconds(mean.cpu),
                megabytes(mean.written),
            ]);
        }
    }
    table
}

fn notes(all: &[Contender]) -> Vec<String> {
    let mut notes = vec![
        "times: of \"alluvium, running\". Batches: median time, mean of processor time and bytes."
            .to_owned(),
    ];
    let out = all.iter().filter_map(|one| Some((&one.name, one.taker.as_ref().err()?)));
    notes.extend(out.map(|(name, why)| format!("{name} is out: {why}")));
    let ours = all.first().and_then(|ours| ours.rows);
    let others = all.iter().filter(|one| ours.is_some() && one.rows.is_some());
    let differing = others.filter(|one| one.rows != ours);
    notes.extend(differing.map(|one| format!("{} did other work: its rows differ", one.name)));
    notes
}

fn as_json(one: &Contender) -> Value {
    let turn = |turn: &Turn| {
        let mut value = turn.cost.to_json();
        let step = |step: &Step| (step.name.clone(), step.cost.to_json());
        value["steps"] = turn.steps.iter().map(step).collect::<serde_json::Map<_, _>>().into();
        value
    };
    json!({
        "name": one.name,
        "out": one.taker.as_ref().err(),
        "first": one.first().map(turn),
        "batches": one.batches().iter().map(turn).collect::<Vec<_>>(),
        "median_batch_seconds": one.median().as_secs_f64(),
        "peak_bytes": one.peak(),
        "rows": one.rows.map(|rows| rows.0),
        "open_rows": one.rows.map(|rows| rows.1),
    })
}
