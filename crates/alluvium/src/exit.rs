//! How the program ends: 0 done, 1 findings or a failed run, 2 usage or configuration.

use alluvium_config::ConfigError;
use alluvium_query::QueryError;

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
    eprintln!("alluvium: {text}");
    let asked = error.downcast_ref::<QueryError>().is_some_and(|error| {
        use QueryError as E;
        matches!(
            error,
            E::NotReadOnly(_) | E::NoTable { .. } | E::NoColumn { .. } | E::Key(_) | E::Moment(_)
        )
    });
    if asked || error.is::<UsageError>() { Exit::Usage } else { Exit::Failed }
}
