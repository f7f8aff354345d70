//! The connection: who we are, how it is protected, and how it comes back when it breaks.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, Clock};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};

use super::settings::{NatsAccess, NatsSettings, NatsTls};

/// A request that has no answer by then has failed.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// So long a server that starts beside us may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A connection on which nothing comes is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Connects. A server that is not there yet is waited for; one that refuses us is not.
pub(super) async fn connect(
    settings: &NatsSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Client, BusError> {
    let servers = addresses(&settings.servers)?;
    let started = clock.instant();
    let mut attempts = 0;
    loop {
        let error = match options(settings, clock)?.connect(servers.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => explain(error.kind(), &error.to_string(), &servers),
        };
        if matches!(error, BusError::Refused(_)) || clock.since(started) > START_PATIENCE {
            return Err(error);
        }
        attempts += 1;
        tracing::warn!(%error, "waiting for NATS");
        tokio::time::sleep(wait(attempts, clock.as_ref())).await;
    }
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, BusError> {
    let refused = |text: &str| BusError::Refused(format!("bus.nats.servers: {text}"));
    if servers.is_empty() {
        return Err(refused("there is none"));
    }
    let parse = |text: &String| {
        // The text may hold a password: it is not shown.
        let address: ServerAddr =
            text.parse().map_err(|_| refused("one is no address, such as nats://host:4222"))?;
        if address.has_user_pass() || address.password().is_some() {
            return Err(refused("one holds credentials; they belong into user and password"));
        }
        if address.is_websocket() {
            return Err(refused("WebSockets are not spoken; write nats:// or tls://"));
        }
        Ok(address)
    };
    servers.iter().map(parse).collect()
}

fn options(settings: &NatsSettings, clock: &Arc<dyn Clock>) -> Result<ConnectOptions, BusError> {
    let clock = Arc::clone(clock);
    let options = ConnectOptions::new()
        .name("alluvium")
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(move |attempts| wait(attempts, clock.as_ref()))
        .event_callback(|event| async move { tell(&event) });
    access(protect(options, &settings.tls)?, &settings.access)
}

fn protect(mut options: ConnectOptions, tls: &NatsTls) -> Result<ConnectOptions, BusError> {
    let files = tls.ca.iter().chain(tls.identity.iter().flat_map(|(cert, key)| [cert, key]));
    for file in files {
        std::fs::metadata(file).map_err(|error| {
            BusError::Refused(format!("bus.nats.tls: {}: {error}", file.display()))
        })?;
    }
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &tls.identity {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options.require_tls(tls.required))
}

fn access(options: ConnectOptions, access: &NatsAccess) -> Result<ConnectOptions, BusError> {
    Ok(match access {
        NatsAccess::Open => options,
        NatsAccess::User { user, password } => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        NatsAccess::Token(token) => options.token(token.expose().to_owned()),
        NatsAccess::Nkey(seed) => options.nkey(seed.expose().trim().to_owned()),
        // The error might quote what it could not read.
        NatsAccess::Credentials(text) => options.credentials(text.expose()).map_err(|_| {
            BusError::Refused("bus.nats.credentials: this is no credentials file".to_owned())
        })?,
    })
}

fn explain(kind: ConnectErrorKind, text: &str, servers: &[ServerAddr]) -> BusError {
    let hosts: Vec<String> = servers.iter().map(|s| format!("{}:{}", s.host(), s.port())).collect();
    let hosts = hosts.join(", ");
    match kind {
        ConnectErrorKind::AuthorizationViolation => BusError::Refused(format!(
            "NATS at {hosts} refuses the credentials: check user and password, token, nkey or \
             credentials of bus.nats"
        )),
        ConnectErrorKind::Authentication => BusError::Refused(
            "the challenge of NATS could not be signed: bus.nats.nkey is no seed of an nkey"
                .to_owned(),
        ),
        _ if kind == ConnectErrorKind::Tls || text.contains("certificate") => {
            BusError::Refused(format!("no TLS with NATS at {hosts}: {text}; check bus.nats.tls"))
        }
        _ => BusError::Unavailable(format!("NATS at {hosts}: {text}")),
    }
}

/// Doubles, up to a bound; a part of it differs from process to process, so that not all come back
/// at once.
fn wait(attempts: usize, clock: &dyn Clock) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let full = (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT);
    let part = u32::try_from(clock.now().subsec_nanosecond()).unwrap_or(0) % 1000;
    full / 2 + full / 2 * part / 1000
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS was lost; trying again"),
        Event::LameDuckMode => tracing::info!("the NATS server is about to stop; going elsewhere"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS refused something"),
        Event::ClientError(error) => tracing::warn!(%error, "the connection to NATS failed"),
        Event::SlowConsumer(_) => {
            tracing::warn!("messages of NATS came faster than they were read");
        }
        Event::Draining | Event::Closed => tracing::debug!("the connection to NATS was closed"),
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::SystemClock;

    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_bound_and_is_never_nothing() {
        for attempts in [0, 1, 5, 9, 1000] {
            let wait = wait(attempts, &SystemClock);
            assert!(wait >= FIRST_WAIT / 2 && wait <= LONGEST_WAIT, "{attempts}: {wait:?}");
        }
        assert!(wait(20, &SystemClock) > wait(1, &SystemClock));
    }

    #[test]
    fn an_address_with_credentials_is_refused_without_showing_them() {
        let said = addresses(&["nats://me:hunter2@host:4222".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("credentials") && !said.contains("hunter2"), "{said}");
        let said = addresses(&["nats://:hunter2@[bad".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("no address") && !said.contains("hunter2"), "{said}");
        assert!(addresses(&[]).is_err() && addresses(&["ws://host".to_owned()]).is_err());
        let plain = ["nats://a:4222", "tls://b", "c:4333"].map(str::to_owned);
        assert_eq!(addresses(&plain).unwrap().len(), 3);
    }
}
