//! How the program ends: 0 done, 1 findings or a failed run, 2 usage or configuration.

use alluvium_config::ConfigError;
use alluvium_lake::LakeError;
use alluvium_ledger::LedgerError;
use alluvium_model::{BusError, Remedy, SourceError};
use alluvium_query::QueryError;
use alluvium_runtime::RuntimeError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// There are findings, or a run failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }

    /// Done, or failed.
    pub(crate) fn of(holds: bool) -> Self {
        if holds { Self::Done } else { Self::Failed }
    }
}

/// What was asked for cannot be: told with what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Tells an error on stderr, configuration with file and line, and how to end.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        let handler = miette::GraphicalReportHandler::new();
        let mut text = String::new();
        match handler.render_report(&mut text, config) {
            Ok(()) => eprintln!("{text}"),
            Err(_) => eprintln!("alluvium: {config}"),
        }
        return Exit::Usage;
    }
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    if let Some(Remedy::Operator(what)) = remedy(error) {
        text.push_str("; ");
        text.push_str(what);
    }
    eprintln!("alluvium: {text}");
    let usage = error.is::<UsageError>()
        || is_refused(error)
        || error.downcast_ref().is_some_and(is_asked_wrongly)
        || error.downcast_ref().is_some_and(is_configured_wrongly);
    if usage { Exit::Usage } else { Exit::Failed }
}

/// What is to be done about an engine.
fn remedy(error: &anyhow::Error) -> Option<Remedy> {
    let lake = error.downcast_ref().map(LakeError::remedy);
    lake.or_else(|| error.downcast_ref().map(BusError::remedy))
        .or_else(|| error.downcast_ref().map(LedgerError::remedy))
}

/// Whether an engine is not as the settings have it, or does not let us in.
fn is_refused(error: &anyhow::Error) -> bool {
    use LedgerError as L;
    matches!(error.downcast_ref(), Some(LakeError::Denied { .. } | LakeError::Unfit(_)))
        || matches!(error.downcast_ref(), Some(BusError::Refused(_)))
        || matches!(error.downcast_ref(), Some(L::Refused { .. } | L::Address(_) | L::Foreign(_)))
}

/// Whether a reason that a run gives blames the configuration: the metadata do not fit the source, or
/// the bus is not as the settings have it. A run tells its reasons in words only; these begin as the
/// error does.
pub(crate) fn blames_configuration(reason: &str) -> bool {
    let misfit = SourceError::Misconfigured(String::new()).to_string();
    [misfit, BusError::Refused(String::new()).to_string()].iter().any(|why| reason.contains(why))
}

fn is_asked_wrongly(error: &QueryError) -> bool {
    use QueryError as E;
    matches!(
        error,
        E::NotReadOnly(_) | E::NoTable { .. } | E::NoColumn { .. } | E::Key(_) | E::Moment(_)
    )
}

fn is_configured_wrongly(error: &RuntimeError) -> bool {
    use RuntimeError as E;
    match error {
        E::UnknownSystem(_) | E::UnknownEntity(_) | E::Trigger { .. } => true,
        E::Bus(BusError::Refused(_)) => true,
        E::NotReady { reason, .. } | E::LayerStopped { reason, .. } => blames_configuration(reason),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_of_metadata_and_source_is_told_from_other_failures_of_a_run() {
        let misfit = SourceError::Misconfigured("there is no table `x`".to_owned());
        assert!(blames_configuration(&format!("shop.orders: {misfit}; mend it")));
        let away = SourceError::Unavailable("there is nobody".to_owned());
        assert!(!blames_configuration(&format!("shop.orders: {away}; try again")));
        let left = BusError::Refused("the bus has moved".to_owned());
        assert!(blames_configuration(&format!("{left}; mend it")));
        assert_eq!(report(&RuntimeError::Bus(left).into()), Exit::Usage);
    }

    #[test]
    fn an_engine_that_lets_us_not_in_is_configuration_and_one_that_is_away_is_not() {
        assert_eq!(report(&BusError::Refused("a wrong password".to_owned()).into()), Exit::Usage);
        assert_eq!(report(&LedgerError::Address("no host".to_owned()).into()), Exit::Usage);
        assert_eq!(report(&BusError::Unavailable("no answer".to_owned()).into()), Exit::Failed);
        let rejected = BusError::Rejected("the clock went back".to_owned());
        assert!(!blames_configuration(&rejected.to_string()));
        assert_eq!(report(&rejected.into()), Exit::Failed);
    }

    #[test]
    fn what_was_asked_or_configured_wrongly_is_usage() {
        let unknown = RuntimeError::UnknownSystem("shop".parse().unwrap());
        assert_eq!(report(&unknown.into()), Exit::Usage);
        assert_eq!(report(&QueryError::Key("it has two columns".to_owned()).into()), Exit::Usage);
        assert_eq!(report(&RuntimeError::Stopping.into()), Exit::Failed);
        assert_eq!(report(&QueryError::Statement("1 / 0".to_owned()).into()), Exit::Failed);
    }
}
