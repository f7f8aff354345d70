//! `alluvium validate`: whether settings, systems and entities are right.

use alluvium_config::ConfigError;
use serde::Serialize;

use crate::cli::{Cli, Format};
use crate::exit::Exit;
use crate::{output, wiring};

#[derive(Serialize)]
struct Row {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    problem: String,
    help: Option<String>,
}

/// Checks, and tells all that is wrong: for people on stderr, otherwise as data.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<Exit> {
    match wiring::validate(cli) {
        Ok((settings, metadata)) => {
            super::trace(settings.log.directives(), settings.log.format)?;
            if cli.output == Format::Table {
                let (systems, entities) = (metadata.systems.len(), metadata.entities.len());
                eprintln!("all is right: {systems} systems, {entities} entities");
            } else {
                output::rows::<Row>(cli.output, &[])?;
            }
            Ok(Exit::Done)
        }
        Err(error) if cli.output == Format::Table => Err(error),
        Err(error) => {
            let Some(config) = error.downcast_ref::<ConfigError>() else { return Err(error) };
            let rows: Vec<Row> = config
                .findings()
                .iter()
                .map(|finding| Row {
                    file: finding.place().to_owned(),
                    line: finding.line(),
                    column: finding.column(),
                    problem: finding.problem().to_owned(),
                    help: finding.help_text().map(str::to_owned),
                })
                .collect();
            output::rows(cli.output, &rows)?;
            Ok(Exit::Usage)
        }
    }
}
