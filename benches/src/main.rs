//! `make bench` and its kin: how fast changes land, beside others, and whether that stays so as
//! tables grow. Counted to the fsync: a turn ends when what it wrote is durable.

mod bus;
mod commits;
mod compare;
mod engine;
mod flat;
mod index;
mod meter;
mod ours;
mod pages;
mod report;
mod whole;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use report::Output;

/// As the binary has it.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures how fast changes land.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
    /// Where to work; a new temporary folder if left out.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, short, global = true, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Ours and peers, in turns, on the same files.
    Compare(compare::Args),
    /// The buses, in turns, with the same file.
    Bus(bus::Args),
    /// The cost of a batch at several sizes of the table.
    Flat(flat::Args),
    /// Time and memory over many commits.
    Commits(commits::Args),
    /// Disk and memory of the key index.
    Index(index::Args),
    /// What the others measure: takes files from standard input.
    #[command(hide = true)]
    Engine {
        folder: PathBuf,
        #[arg(long)]
        apart: bool,
    },
    /// What `bus` publishes to where there are no brokers.
    #[command(hide = true)]
    MockKafka { topics: Vec<String> },
    /// What `index` measures.
    #[command(hide = true)]
    OpenIndex { path: PathBuf, keys: u64 },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let scratch = || match &cli.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let report = match &cli.mode {
        Mode::Compare(args) => compare::measure(args, scratch()?.path())?,
        Mode::Bus(args) => bus::measure(args, scratch()?.path()).await?,
        Mode::Flat(args) => flat::measure(args, scratch()?.path())?,
        Mode::Commits(args) => commits::measure(args, scratch()?.path())?,
        Mode::Index(args) => index::measure(args, scratch()?.path())?,
        Mode::Engine { folder, apart } => return ours::serve(folder, *apart).await,
        Mode::MockKafka { topics } => return bus::serve_mock(topics),
        Mode::OpenIndex { path, keys } => {
            println!("{}", index::open(path, *keys)?);
            return Ok(());
        }
    };
    report.print(cli.output);
    report.verdict()
}
