//! What a user of the crate sees: settings, metadata, secrets, schemas, and what errors say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step ends the test")]

mod connectors;
mod documentation;
mod examples;
mod lake;
mod metadata;
mod secrets;
mod settings;
mod validate;

use alluvium_config::{ConfigError, Finding};

/// All findings, each in one line.
fn said(error: &ConfigError) -> Vec<String> {
    error.findings().iter().map(Finding::located).collect()
}

/// What a terminal shows, without colours.
fn shown(error: &ConfigError) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
    let mut text = String::new();
    handler.render_report(&mut text, error).unwrap();
    text
}
