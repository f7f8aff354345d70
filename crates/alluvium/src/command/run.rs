//! `alluvium run`: everything in one process, until it is told to stop.

use alluvium_config::Settings;
use alluvium_runtime::{Runtime, Triggers};
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::ingest::finish;
use crate::exit::Exit;
use crate::wiring;

/// Runs until SIGINT or SIGTERM, then drains.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let metadata = wiring::metadata(settings)?;
    let wired = wiring::wire(settings, metadata).await?;
    let handle = Runtime::start(wired.platform.clone(), Triggers::Heeded).await?;
    asked_to_stop().await?;
    tracing::info!("stopping");
    finish(&handle, &wired, settings).await;
    Ok(Exit::Done)
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn asked_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for signals")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
