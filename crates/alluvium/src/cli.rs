//! The command line.

use std::path::PathBuf;

use alluvium_model::{EntityId, Role, SystemName, sequence};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The version, and the revision of the sources that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ALLUVIUM_REVISION"), ")");

/// Event-driven ingestion that keeps every version of every row, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version = VERSION, propagate_version = true)]
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
    /// Runs everything: triggers, connectors, layers, and HTTP; or some of it, where several processes
    /// share a bus.
    Run(Run),
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
    /// Makes a table anew from raw, and swaps it in, in one commit.
    Rebuild(Rebuild),
    /// What to do after the bus was lost.
    #[command(subcommand)]
    Epoch(Epoch),
    /// Moves house: from one bus to another.
    #[command(subcommand)]
    Bus(Bus),
    /// Looks after the Delta tables: puts files together, writes checkpoints, removes what nothing
    /// refers to. `alluvium run` does the same by and by.
    Maintain(Maintain),
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

#[derive(Debug, Default, Args)]
pub(crate) struct Run {
    /// What this process does of the work, where several share a bus: connect, raw, bronze, silver,
    /// api. Left out: what `runtime.roles` says, which is all of it.
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',')]
    pub(crate) roles: Vec<Role>,
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

// `--version` is a table's here.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Query {
    /// The SQL. `SHOW TABLES` lists what there is.
    pub(crate) sql: String,
    /// Rows at most.
    #[arg(long)]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) moment: Moment,
}

#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(crate) struct History {
    /// SYSTEM.ENTITY.
    pub(crate) entity: EntityId,
    /// The key: its value, or a JSON object where it has several columns.
    #[arg(long)]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) moment: Moment,
}

/// From which moment tables are looked at.
#[derive(Debug, Args)]
pub(crate) struct Moment {
    /// Valid time: of silver only the versions that were valid then. An instant, a whole or a
    /// decimal number, as the entity's `_valid_from` is; an instant without zone is UTC.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) as_of: Option<String>,
    /// Table time: the one bronze or silver table that is named, at this version of it.
    #[arg(long, value_name = "NUMBER", conflicts_with = "at")]
    pub(crate) version: Option<u64>,
    /// Table time: bronze and silver as they stood at this instant; UTC if it has no zone.
    #[arg(long, value_name = "TIMESTAMP", value_parser = instant)]
    pub(crate) at: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// Lists records, the latest first.
    List {
        /// SYSTEM.ENTITY; all if left out.
        entity: Option<EntityId>,
        /// Also those that were decided on.
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
    /// Applies held snapshots after all: what they do not contain is closed.
    Approve(Decide),
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

#[derive(Debug, Default, Args)]
pub(crate) struct Verify {
    /// SYSTEM or SYSTEM.ENTITY; all if left out.
    #[arg(value_parser = target)]
    pub(crate) target: Option<Target>,
    /// Makes silver anew from raw, beside the table, and compares every row.
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// So many differing versions of each kind are shown.
    #[arg(long, default_value_t = 20, requires = "rebuild", value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Epoch {
    /// Lets the layers go on with the topics that the bus has now, and tells what is gone with those
    /// that it had.
    Accept {
        /// SYSTEM or SYSTEM.ENTITY.
        #[arg(value_parser = target)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bus {
    /// Lands everything that is on the bus, and begins anew on another one, where sources are read on
    /// from where they were. Given again, it goes on where it ended. Tells the settings to write.
    Migrate {
        /// `nats://HOST:PORT`, `tls://HOST:PORT`, `kafka://HOST:PORT` (several with commas between
        /// them), or `embedded`. What else the settings say of that bus holds.
        #[arg(long, value_name = "BUS")]
        to: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// The layer.
    #[arg(value_enum)]
    pub(crate) layer: RebuiltLayer,
    /// SYSTEM.ENTITY.
    pub(crate) entity: EntityId,
}

/// A layer that can be made anew from raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RebuiltLayer {
    /// The SCD2 table.
    Silver,
}

#[derive(Debug, Args)]
pub(crate) struct Maintain {
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

fn instant(text: &str) -> Result<Timestamp, String> {
    sequence::parse_timestamp(text.trim(), &TimeZone::UTC)
        .map_err(|_| "write an instant, such as 2026-01-31T12:00:00Z, or a day".to_owned())
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
    fn a_query_may_ask_for_a_moment_in_both_times_but_for_one_version() {
        let parse = |args: &[&str]| {
            let args = ["alluvium", "query", "SELECT 1"].iter().chain(args);
            match Cli::try_parse_from(args).map(|cli| cli.command) {
                Ok(Command::Query(query)) => Some(query.moment),
                _ => None,
            }
        };
        let both = parse(&["--as-of", "-5", "--version", "3"]).unwrap();
        assert_eq!((both.as_of.as_deref(), both.version), (Some("-5"), Some(3)));
        for text in ["2026-01-31", "2026-01-31T00:00:00", "2026-01-31T02:00:00+02:00"] {
            let at = parse(&["--at", text]).unwrap().at;
            assert_eq!(at, "2026-01-31T00:00:00Z".parse().ok(), "{text}");
        }
        for wrong in [&["--version", "3", "--at", "2026-01-31"][..], &["--version", "-1"]] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
        assert!(parse(&["--at", "yesterday"]).is_none());
    }

    #[test]
    fn roles_are_written_with_commas_and_unknown_ones_are_told() {
        let parse = |roles: &str| Cli::try_parse_from(["alluvium", "run", "--roles", roles]);
        let Ok(Command::Run(run)) = parse("connect,raw").map(|cli| cli.command) else { panic!() };
        assert_eq!(run.roles, [Role::Connect, Role::Raw]);
        let error = parse("raw,gold").unwrap_err().to_string();
        assert!(error.contains("`gold`") && error.contains("silver"), "{error}");
    }

    #[test]
    fn a_target_is_a_system_or_an_entity() {
        assert_eq!(target("shop").unwrap(), Target::System("shop".parse().unwrap()));
        assert_eq!(target("shop.orders").unwrap(), Target::Entity("shop.orders".parse().unwrap()));
        assert!(target("Shop").is_err());
    }
}
