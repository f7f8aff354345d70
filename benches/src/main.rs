//! `make bench`: publish, raw, bronze and silver, each by itself and then all at once, on the
//! workload that others are measured with. Counted to the fsync: a step ends when what it wrote is
//! durable.

mod layers;
mod meter;
mod whole;
mod workload;

use std::path::PathBuf;

use clap::Parser;

use meter::Row;
use workload::Workload;

/// Measures how fast changes land.
#[derive(Debug, Parser)]
struct Args {
    /// Rows of the first load.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Batches of changes after it.
    #[arg(long, default_value_t = 10)]
    batches: u64,
    /// Changes in a batch: 80 % updates, 15 % inserts, 5 % deletes.
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
    /// Where to work; a new temporary folder if left out.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The `alluvium` binary, for the whole.
    #[arg(long)]
    alluvium: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let scratch = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let mut workload = Workload::new();
    let first = workload.first_load(args.rows);
    let batches: Vec<_> = (0..args.batches).map(|_| workload.batch(args.changes)).collect();

    println!(
        "{} rows at first, then {} batches of {} changes",
        args.rows, args.batches, args.changes
    );
    println!("{}", Row::HEADER);
    for row in layers::measure(&scratch.path().join("layers"), &first, &batches).await? {
        println!("{row}");
    }
    for row in whole::measure(&scratch.path().join("whole"), &args.alluvium, &first, &batches)? {
        println!("{row}");
    }
    Ok(())
}
