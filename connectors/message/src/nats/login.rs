//! How a server of NATS is reached and logged in to.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_model::{Secret, SourceError};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};

use crate::settings::MessageConnection;

/// The options that a connection may have.
const KNOWN: [&str; 8] = [
    "user",
    "password",
    "token",
    "nkey",
    "credentials",
    "tls.ca.file",
    "tls.cert.file",
    "tls.key.file",
];

/// Connects.
pub(super) async fn connect(
    connection: &MessageConnection,
    within: Duration,
) -> Result<Client, SourceError> {
    let options = options(connection)?
        .name("alluvium")
        .connection_timeout(within)
        .request_timeout(Some(within));
    options.connect(connection.servers.as_slice()).await.map_err(|error| match error.kind() {
        ConnectErrorKind::ServerParse => SourceError::Misconfigured(
            "one of the `servers` is no address; write `nats://host:4222`".to_owned(),
        ),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            SourceError::Refused("NATS did not accept the log-in".to_owned())
        }
        kind => SourceError::Unavailable(format!("NATS: {kind}")),
    })
}

fn options(connection: &MessageConnection) -> Result<ConnectOptions, SourceError> {
    let misfit = |what: String| SourceError::Misconfigured(format!("`options`: {what}"));
    if let Some(name) = connection.options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let known = KNOWN.join("`, `");
        return Err(misfit(format!("NATS knows no `{name}`; it knows `{known}`")));
    }
    let get = |name: &str| connection.options.get(name).map(Secret::expose);
    let mut options = ConnectOptions::new();
    options = match (get("user"), get("password")) {
        (Some(user), Some(password)) => options.user_and_password(user.into(), password.into()),
        (None, None) => options,
        _ => return Err(misfit("`user` and `password` go together".to_owned())),
    };
    if let Some(token) = get("token") {
        options = options.token(token.to_owned());
    }
    if let Some(seed) = get("nkey") {
        options = options.nkey(seed.to_owned());
    }
    if let Some(text) = get("credentials") {
        options = options
            .credentials(text)
            .map_err(|_| misfit("`credentials` is not the text of a `.creds` file".to_owned()))?;
    }
    if let Some(file) = get("tls.ca.file") {
        options = options.add_root_certificates(PathBuf::from(file)).require_tls(true);
    }
    match (get("tls.cert.file"), get("tls.key.file")) {
        (Some(cert), Some(key)) => {
            Ok(options.add_client_certificate(PathBuf::from(cert), PathBuf::from(key)))
        }
        (None, None) => Ok(options),
        _ => Err(misfit("`tls.cert.file` and `tls.key.file` go together".to_owned())),
    }
}
