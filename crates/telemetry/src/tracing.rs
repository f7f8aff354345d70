//! Logs: structured, lowercase, to stderr, without row values.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingSettings {
    /// A level (`info`), or directives (`info,alluvium_lake=debug`).
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Default for TracingSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::default() }
    }
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// The filter cannot be read.
    #[error("`{filter}` is not a log filter: write a level, or `level,crate=level`")]
    Filter {
        /// What was written.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs were set up before.
    #[error("logs were set up before")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets up the logs of the process. Called once, from `main`.
pub fn init(settings: &TracingSettings) -> Result<(), TracingError> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|source| TracingError::Filter { filter: settings.filter.clone(), source })?;
    tracing_subscriber::registry()
        .with(lines(settings.format).with_filter(filter))
        .try_init()
        .map_err(TracingError::Twice)
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let settings = TracingSettings { filter: "info,=x=".to_owned(), ..Default::default() };
        let error = init(&settings).unwrap_err();
        assert!(error.to_string().contains("info,=x="), "{error}");
    }
}
