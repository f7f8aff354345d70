//! Everything at once: settings, systems, entities, and what they refer to.

use crate::error::{ConfigError, Findings};
use crate::metadata::{Metadata, PartCheck, Reach};
use crate::schemas::SchemaCatalog;
use crate::settings::{BusType, LoadOptions, Settings};

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
    for error in unresolved.into_iter().flatten().chain(of_the_bus(&settings)) {
        findings.take(error)?;
    }
    let metadata = Metadata::find(&settings, catalog, own, Reach::All, &mut findings)?;
    findings.into_result()?;
    Ok((settings, metadata))
}

/// References of the bus that is used and that lead nowhere.
fn of_the_bus(settings: &Settings) -> Vec<ConfigError> {
    let nats = &settings.bus.nats;
    match settings.bus.kind {
        BusType::Embedded => Vec::new(),
        BusType::Nats => {
            let secrets = [&nats.password, &nats.token, &nats.nkey, &nats.credentials];
            let found = secrets.into_iter().flatten();
            found.filter_map(|secret| settings.secret(secret).err()).collect()
        }
        BusType::Kafka => settings.kafka().err().into_iter().collect(),
    }
}
