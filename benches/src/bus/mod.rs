//! The buses beside each other: the same file onto each, and back.

mod place;
mod turn;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

pub(crate) use self::place::serve_mock;

use self::place::{Place, nats_places};
use self::turn::{Load, Spent, Turn, Work};
use crate::meter::quantile;
use crate::ours;
use crate::report::{Report, Table, seconds};
use crate::workload::{Lines, Workload};

/// What is measured, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lines that are published and read back.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Pages of one record that are published one after the other.
    #[arg(long, default_value_t = 500)]
    small: usize,
    /// How often each bus has its turn.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Brokers of Kafka, as HOST:PORT; librdkafka's mock cluster if left out. Topics with a prefix
    /// `alluvium-bench-` stay there.
    #[arg(long)]
    kafka: Option<String>,
}

/// A bus in the comparison, and what was found.
struct Contender {
    place: Place,
    turns: Vec<Turn>,
    /// Why it is out.
    out: Option<String>,
}

pub(crate) async fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Report> {
    let file = scratch.join("changes.ndjson");
    Workload::new().write(&file, Lines::Load(args.rows))?;
    let topic = ours::entity()?.id();
    let mut notes = Vec::new();
    let mut all = contenders(args, scratch, &mut notes);
    for turn in 0..args.turns {
        let count = all.len();
        // Nobody is always the first.
        for at in 0..count {
            let one = &mut all[(turn + at) % count];
            if one.out.is_some() {
                continue;
            }
            eprintln!("turn {} of {}: {}", turn + 1, args.turns, one.place.name());
            // What others left for the disk to do is done on nobody's time.
            Command::new("sync").status().context("cannot run sync")?;
            let page_by_page = one.place.forgets();
            let work = Work { file: &file, topic: &topic, small: args.small, page_by_page };
            let measured = Box::pin(one.turn(scratch, work)).await;
            match measured {
                Ok(turn) => one.turns.push(turn),
                Err(error) => one.out = Some(format!("{error:#}")),
            }
        }
    }
    Ok(report(args, &all, notes))
}

fn contenders(args: &Args, scratch: &Path, notes: &mut Vec<String>) -> Vec<Contender> {
    let mut places = vec![Place::Embedded];
    match nats_places(scratch) {
        Ok(nats) => places.extend(nats),
        Err(why) => notes.push(format!("nats is out: {why}")),
    }
    places.push(args.kafka.clone().map_or(Place::KafkaMock, Place::Kafka));
    places.into_iter().map(|place| Contender { place, turns: Vec::new(), out: None }).collect()
}

impl Contender {
    async fn turn(&self, scratch: &Path, work: Work<'_>) -> anyhow::Result<Turn> {
        let opened = self.place.open(scratch, work.topic).await?;
        let turn = turn::take(&opened, work).await?;
        opened.close().await;
        Ok(turn)
    }

    fn median(&self, of: impl Fn(&Turn) -> Duration) -> Duration {
        quantile(self.turns.iter().map(of).collect(), 0.5)
    }

    /// The median of the server's processor time, where it was measured.
    fn server(&self, of: impl Fn(&Turn) -> Spent) -> Option<Duration> {
        let times: Option<Vec<_>> =
            self.turns.iter().map(|turn| of(turn).server.map(|cost| cost.cpu)).collect();
        times.filter(|times| !times.is_empty()).map(|times| quantile(times, 0.5))
    }

    fn load(&self) -> Load {
        self.turns.first().map(|turn| turn.load).unwrap_or_default()
    }

    /// Pages of one record, of all turns.
    fn small(&self, part: f64) -> Duration {
        quantile(self.turns.iter().flat_map(|turn| turn.small.iter().copied()).collect(), part)
    }
}

fn report(args: &Args, all: &[Contender], mut notes: Vec<String>) -> Report {
    let title = format!(
        "{} records in pages of 4 MiB onto each bus and back; then {} pages of one record, one \
         after the other; medians of {} turns",
        args.rows, args.small, args.turns
    );
    let json = json!({
        "rows": args.rows,
        "small": args.small,
        "buses": all.iter().map(as_json).collect::<Vec<_>>(),
    });
    notes.push(
        "Publishing ends when the last page is acknowledged. One reader, as raw reads; it is not \
         landed. cpu: of this process, in which the embedded bus is. MB: payload."
            .to_owned(),
    );
    notes.extend(all.iter().map(|one| format!("{}: {}", one.place.name(), one.place.worth())));
    let out = all.iter().filter_map(|one| Some((one.place.name(), one.out.as_ref()?)));
    // Who is not installed is no contender: whoever is out did not do what a bus must.
    let findings = out.map(|(name, why)| format!("{name} is out: {why}")).collect();
    Report { title, tables: vec![throughput(all), small(all)], notes, findings, json }
}

fn measured(all: &[Contender]) -> impl Iterator<Item = &Contender> {
    all.iter().filter(|one| !one.turns.is_empty())
}

fn throughput(all: &[Contender]) -> Table {
    let mut table = Table::new(&[
        "bus",
        "publish s",
        "records/s",
        "MB/s",
        "messages/s",
        "cpu s",
        "server cpu s",
        "read s",
        "records/s",
        "cpu s",
        "server cpu s",
    ]);
    for one in measured(all) {
        let (publish, read) =
            (one.median(|turn| turn.publish.ours.wall), one.median(|turn| turn.read.ours.wall));
        let load = one.load();
        table.row(vec![
            one.place.name().to_owned(),
            seconds(publish),
            per_second(load.records, publish),
            per_second(load.bytes / 1_000_000, publish),
            per_second(load.messages, publish),
            hundredths(Some(one.median(|turn| turn.publish.ours.cpu))),
            hundredths(one.server(|turn| turn.publish)),
            seconds(read),
            per_second(load.records, read),
            hundredths(Some(one.median(|turn| turn.read.ours.cpu))),
            hundredths(one.server(|turn| turn.read)),
        ]);
    }
    table
}

fn small(all: &[Contender]) -> Table {
    let mut table = Table::new(&["pages of one record", "p50 ms", "p99 ms"]);
    for one in measured(all) {
        let milliseconds = |part| format!("{:.2}", one.small(part).as_secs_f64() * 1e3);
        table.row(vec![one.place.name().to_owned(), milliseconds(0.5), milliseconds(0.99)]);
    }
    table
}

fn per_second(count: u64, time: Duration) -> String {
    format!("{:.0}", count as f64 / time.as_secs_f64().max(1e-9))
}

/// Processor time is counted in hundredths; a dash where it is not measured.
fn hundredths(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}

fn as_json(one: &Contender) -> Value {
    let spent = |spent: &Spent| {
        let mut value = spent.ours.to_json();
        value["server"] = spent.server.map_or(Value::Null, |cost| cost.to_json());
        value
    };
    let turn = |turn: &Turn| {
        json!({
            "records": turn.load.records,
            "messages": turn.load.messages,
            "bytes": turn.load.bytes,
            "publish": spent(&turn.publish),
            "read": spent(&turn.read),
        })
    };
    json!({
        "name": one.place.name(),
        "acknowledged": one.place.worth(),
        "out": one.out,
        "turns": one.turns.iter().map(turn).collect::<Vec<_>>(),
        "small_p50_seconds": one.small(0.5).as_secs_f64(),
        "small_p99_seconds": one.small(0.99).as_secs_f64(),
    })
}
