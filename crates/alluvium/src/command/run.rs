//! `alluvium run`: everything in one process, until it is told to stop.

use alluvium_api::ApiState;
use alluvium_config::{Reach, Settings};
use alluvium_runtime::{Runtime, Triggers};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ingest::finish;
use crate::exit::Exit;
use crate::wiring;

/// Runs until SIGINT or SIGTERM, then drains.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let metadata = wiring::metadata_for(settings, Reach::Enabled)?;
    let wired = wiring::wire(settings, metadata).await?;
    // Before anything starts, so that a second process on this port changes nothing.
    let listener = match settings.http.enabled {
        true => Some(
            TcpListener::bind(settings.http.listen)
                .await
                .with_context(|| format!("cannot listen on {}", settings.http.listen))?,
        ),
        false => None,
    };
    let handle = Runtime::start(wired.platform.clone(), Triggers::Heeded).await?;
    let stop = CancellationToken::new();
    let server = listener.map(|listener| {
        tracing::info!(address = %settings.http.listen, "listening");
        let state = ApiState::new(
            handle.clone(),
            std::sync::Arc::clone(&wired.ledger),
            std::sync::Arc::clone(&wired.metrics),
        )
        .called(settings.http.allowed_hosts.clone())
        .with_connections(settings.http.max_connections as usize);
        tokio::spawn(alluvium_api::serve(listener, state, stop.clone()))
    });
    asked_to_stop().await?;
    tracing::info!("stopping");
    finish(&handle, &wired, settings).await;
    stop.cancel();
    if let Some(server) = server {
        server.await.context("HTTP ended badly")?;
    }
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
