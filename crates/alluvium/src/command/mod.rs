//! The commands, one file each.

mod bus;
mod epoch;
mod history;
pub(crate) mod ingest;
mod init;
mod input;
mod known;
mod maintain;
mod order;
mod progress;
mod publish;
mod quarantine;
pub(crate) mod query;
mod rebuild;
pub(crate) mod run;
mod schema;
mod validate;
pub(crate) mod verify;

use alluvium_telemetry::{LogFormat, TracingError, TracingSettings};
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, UsageError};
use crate::wiring;

/// Does what the command line says.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Init(args) => return init::run(&cli, args),
        Command::Schema(args) => return schema::run(&cli, args),
        Command::Validate => return validate::run(&cli),
        Command::Demo(args) => return Box::pin(crate::demo::run(&cli, args)).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "alluvium",
                &mut std::io::stdout(),
            );
            return Ok(Exit::Done);
        }
        _ => {}
    }
    let settings = wiring::settings(&cli)?;
    // Long-running, the log is what people look at; otherwise only what is amiss concerns them.
    let filter = match &cli.command {
        // The storage engine's own news concern nobody but its developers.
        Command::Run(_) if !cli.quiet && settings.log.filter.is_none() => {
            format!("{},fjall=warn,lsm_tree=warn", settings.log.directives())
        }
        Command::Run(_) if !cli.quiet => settings.log.directives(),
        _ => settings.log.filter.clone().unwrap_or_else(|| "warn".to_owned()),
    };
    trace(filter, settings.log.format)?;
    match &cli.command {
        Command::Run(args) => run::run(&settings, args).await,
        Command::Ingest(args) => ingest::run(&cli, &settings, args).await,
        Command::Publish(args) => publish::run(&cli, &settings, args).await,
        Command::Query(args) => query::run(&cli, &settings, args).await,
        Command::History(args) => history::run(&cli, &settings, args).await,
        Command::Quarantine(args) => quarantine::run(&cli, &settings, args).await,
        Command::Verify(args) => verify::run(&cli, &settings, args).await,
        Command::Rebuild(args) => rebuild::run(&cli, &settings, args).await,
        Command::Epoch(args) => epoch::run(&cli, &settings, args).await,
        Command::Bus(args) => bus::run(&cli, &settings, args).await,
        Command::Maintain(args) => maintain::run(&cli, &settings, args).await,
        Command::Init(_)
        | Command::Schema(_)
        | Command::Validate
        | Command::Demo(_)
        | Command::Completions { .. } => Ok(Exit::Done),
    }
}

/// Starts logging to stderr.
pub(crate) fn trace(filter: String, format: alluvium_config::LogFormat) -> anyhow::Result<()> {
    let format = match format {
        alluvium_config::LogFormat::Text => LogFormat::Text,
        alluvium_config::LogFormat::Json => LogFormat::Json,
    };
    alluvium_telemetry::init(&TracingSettings { filter, format }).map_err(|error| match error {
        TracingError::Filter { .. } => UsageError(format!("`log.filter`: {error}")).into(),
        TracingError::Twice(_) => error.into(),
    })
}
