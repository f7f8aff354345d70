//! Everything at once: settings, systems, entities, and what they refer to.

use crate::error::{ConfigError, Findings};
use crate::metadata::{Metadata, PartCheck, Reach};
use crate::schemas::SchemaCatalog;
use crate::settings::{LoadOptions, Settings};

/// Reads and checks all there is, also that every reference to a secret leads somewhere. What is
/// wrong in one file keeps nothing of another from being told.
pub fn validate(
    options: LoadOptions,
    catalog: &SchemaCatalog,
    own: &PartCheck<'_>,
) -> Result<(Settings, Metadata), ConfigError> {
    let mut findings = Findings::default();
    let settings = Settings::find(options, &mut findings)?;
    let unresolved = [settings.ledger_password().err(), settings.lake_place().err()];
    for error in unresolved.into_iter().flatten() {
        findings.take(error)?;
    }
    let metadata = Metadata::find(&settings, catalog, own, Reach::All, &mut findings)?;
    findings.into_result()?;
    Ok((settings, metadata))
}
