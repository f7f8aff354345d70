//! What a move tells at its end: what became of each topic, and the settings to write.

use serde::Serialize;

use crate::cli::{Cli, Format};
use crate::destination::Destination;
use crate::output;

/// A topic that was moved.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) entity: String,
    /// The epoch that is over; none if nothing ever came of the entity.
    pub(super) from_epoch: Option<u64>,
    /// The offset at which it ended.
    pub(super) from_end: Option<u64>,
    pub(super) to_epoch: u64,
    /// The number of the page after which its source is read on.
    pub(super) page: Option<u64>,
}

/// A setting to write.
#[derive(Serialize)]
struct Told {
    setting: String,
    value: String,
}

/// Tells what was moved, and what is to be written now.
pub(super) fn tell(cli: &Cli, to: &Destination, rows: &[Row]) -> anyhow::Result<()> {
    let (own, named) = (format!("{}.", to.section()), to.settings());
    let given = cli.set.iter().filter(|(key, _)| key.starts_with(&own));
    let given = given.filter(|(key, _)| named.iter().all(|(other, _)| other != key));
    let given: Vec<(String, String)> = given.cloned().collect();
    if !matches!(cli.output, Format::Table | Format::Csv) {
        let told = named.into_iter().chain(given);
        let told: Vec<Told> = told.map(|(setting, value)| Told { setting, value }).collect();
        let topics = ("topics", output::objects(rows)?);
        return output::sections(cli.output, vec![topics, ("settings", output::objects(&told)?)]);
    }
    output::rows(cli.output, rows)?;
    if cli.quiet {
        return Ok(());
    }
    eprintln!(
        "moved to {to}. Write this into alluvium.toml, in the place of what it says of the bus (or \
         into the environment, if it stands there), and start:\n\n{}",
        to.toml(&given)
    );
    Ok(())
}
