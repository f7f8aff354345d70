//! `alluvium run`: everything in one process, or this one's share of it, until it is told to stop.

use std::collections::BTreeSet;

use alluvium_api::ApiState;
use alluvium_config::{Reach, Settings};
use alluvium_model::Role;
use alluvium_runtime::{Runtime, Triggers};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ingest::finish;
use crate::cli::Run;
use crate::exit::{Exit, UsageError};
use crate::wiring::{self, Wired};

/// Runs until SIGINT or SIGTERM, then drains.
pub(crate) async fn run(settings: &Settings, args: &Run) -> anyhow::Result<Exit> {
    let metadata = wiring::metadata_for(settings, Reach::Enabled)?;
    let mut wired = wiring::wire(settings, metadata).await?;
    let roles = roles(settings, args, wired.bus.is_shared())?;
    wired.platform.settings.roles.clone_from(&roles);
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
        .answering_runs(roles.contains(&Role::Api))
        .with_connections(settings.http.max_connections as usize);
        tokio::spawn(alluvium_api::serve(listener, state, stop.clone()))
    });
    let ousted = tokio::select! {
        asked = asked_to_stop() => { asked?; None }
        why = ousted(&wired) => Some(why),
    };
    tracing::info!("stopping");
    finish(&handle, &wired, settings).await;
    stop.cancel();
    if let Some(server) = server {
        server.await.context("HTTP ended badly")?;
    }
    match ousted {
        Some(why) => Err(why.into()),
        None => Ok(Exit::Done),
    }
}

/// Waits until the bus is ours no more, and tells why.
async fn ousted(wired: &Wired) -> UsageError {
    match &wired.tenancy {
        Some(tenancy) => tenancy.lost().await,
        None => std::future::pending().await,
    }
}

/// What this process is to do. What nobody else could do must not be left out.
fn roles(settings: &Settings, args: &Run, shared: bool) -> Result<BTreeSet<Role>, UsageError> {
    let asked = if args.roles.is_empty() { &settings.runtime.roles } else { &args.roles };
    let roles: BTreeSet<Role> = asked.iter().copied().collect();
    let missing: Vec<_> =
        Role::ALL.iter().filter(|role| !roles.contains(role)).map(|role| role.as_str()).collect();
    if shared || missing.is_empty() {
        return Ok(roles);
    }
    Err(UsageError(format!(
        "the embedded bus is open in one process only, so that nobody else could do {}: leave \
         `--roles` and `runtime.roles` out, or use a bus that processes share (docs/scale-out.md)",
        missing.join(", ")
    )))
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
