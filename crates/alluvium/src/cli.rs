//! The command line.

use std::path::PathBuf;

use alluvium_model::{EntityId, SystemName};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Event-driven ingestion that keeps every version of every row, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Where it all is: alluvium.toml, or the folder that holds it.
    #[arg(long, short = 'C', global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Overrides a setting: `--set http.listen=127.0.0.1:8080`. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// In which form data goes to stdout.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Says nothing on stderr but warnings and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The form of data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a first alluvium.toml, systems.json and entities.json.
    Init(Init),
    /// Checks settings, systems and entities, and tells all that is wrong.
    Validate,
    /// Runs everything: triggers, connectors, layers, and HTTP.
    Run,
    /// Runs a system once, or one entity of it, until all layers have applied what came.
    Ingest(Ingest),
    /// Publishes changes from a file, one JSON object a line.
    Publish(Publish),
    /// Queries raw, bronze, silver and the ledger: `SELECT … FROM silver.<system>.<entity>`.
    Query(Query),
    /// All versions of a row.
    History(History),
    /// Records that could not be applied.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Proves that nothing was lost or counted twice.
    Verify(Verify),
    /// Writes the JSON Schemas of settings, systems and entities.
    Schema(Schema),
    /// Ingests a real feed and a shop in a folder of its own, and shows what landed.
    Demo(Demo),
    /// Writes a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder; made if it is not there.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// SYSTEM or SYSTEM.ENTITY.
    #[arg(value_parser = target)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// SYSTEM.ENTITY.
    pub(crate) entity: EntityId,
    /// The file; `-` for stdin.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Each line is a row, an upsert, in no envelope.
    #[arg(long, conflicts_with = "map")]
    pub(crate) rows: bool,
    /// Each line is of another shape: `op=op,sequence=seq,key=after.id,row=after`.
    #[arg(long, value_name = "MAPPING")]
    pub(crate) map: Option<String>,
    /// Waits until all layers have applied what was published.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The SQL. `SHOW TABLES` lists what there is.
    pub(crate) sql: String,
    /// Rows at most.
    #[arg(long)]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// SYSTEM.ENTITY.
    pub(crate) entity: EntityId,
    /// The key: its value, or a JSON object where it has several columns.
    #[arg(long)]
    pub(crate) key: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// Lists records, the latest first.
    List {
        /// SYSTEM.ENTITY; all if left out.
        entity: Option<EntityId>,
        /// Also those that were replayed or discarded.
        #[arg(long)]
        all: bool,
        /// Records at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Shows a record as it was received, and why it could not be applied.
    Show {
        /// The record's number in the list.
        id: i64,
    },
    /// Publishes records again, to be applied after a mend; by number, or all of an entity.
    Replay(Decide),
    /// Leaves records out for good.
    Discard(Decide),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Decide {
    /// Numbers from the list.
    pub(crate) ids: Vec<i64>,
    /// All that wait of an entity.
    #[arg(long, value_name = "SYSTEM.ENTITY")]
    pub(crate) entity: Option<EntityId>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// SYSTEM or SYSTEM.ENTITY; all if left out.
    #[arg(value_parser = target)]
    pub(crate) target: Option<Target>,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The folder.
    #[arg(default_value = "docs/schema")]
    pub(crate) folder: PathBuf,
    /// Writes nothing; fails if a file in the folder differs.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The folder for its data; a new one under the system's temporary folder if left out.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Keeps running until it is interrupted, with HTTP.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A system, or one entity of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    System(SystemName),
    Entity(EntityId),
}

impl Target {
    /// Whether an entity is meant.
    pub(crate) fn includes(&self, entity: &EntityId) -> bool {
        match self {
            Self::System(system) => entity.system == *system,
            Self::Entity(id) => id == entity,
        }
    }
}

fn target(text: &str) -> Result<Target, alluvium_model::ids::NameError> {
    if text.contains('.') {
        text.parse().map(Target::Entity)
    } else {
        text.parse().map(Target::System)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as log.level=debug")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_system_or_an_entity() {
        assert_eq!(target("shop").unwrap(), Target::System("shop".parse().unwrap()));
        assert_eq!(target("shop.orders").unwrap(), Target::Entity("shop.orders".parse().unwrap()));
        assert!(target("Shop").is_err());
    }
}
