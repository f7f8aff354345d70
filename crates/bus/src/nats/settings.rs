//! How a NATS server is reached, and what the bus may take of it.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_model::Secret;

/// Settings of the bus on NATS JetStream. Limits hold per topic.
#[derive(Debug, Clone, PartialEq)]
pub struct NatsSettings {
    /// The servers of one cluster, such as `nats://127.0.0.1:4222` or `tls://nats.example`. Without
    /// credentials: those stand in `access`.
    pub servers: Vec<String>,
    /// As whom we connect.
    pub access: NatsAccess,
    /// How the connection is protected.
    pub tls: NatsTls,
    /// What the names of all streams and subjects begin with: letters, digits, `_` and `-`.
    pub prefix: String,
    /// On how many servers of the cluster a stream is kept: 1, 3 or 5.
    pub replicas: usize,
    /// A bound for each topic's stream that the server itself holds, headers included; a publisher
    /// waits where it is reached. The server sets the room aside when the stream is made. `None`:
    /// `max_unlanded_bytes` and the server's own storage limit are the bounds.
    pub max_stream_bytes: Option<u64>,
    /// How many stored bytes a topic keeps once raw has landed them. Older messages go first.
    pub retention_bytes: u64,
    /// How long a message is kept once raw has landed it.
    pub retention_age: Duration,
    /// How many bytes of payload may wait for raw before a publisher must wait. A page that is
    /// larger is taken once nothing else waits.
    pub max_unlanded_bytes: u64,
    /// The largest message taken, payload and headers together, in bytes. The server's
    /// `max_payload` bounds it further.
    pub max_message_bytes: usize,
    /// How many bytes of audit events are kept; older ones go first.
    pub audit_bytes: u64,
    /// How long audit events are kept.
    pub audit_age: Duration,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            access: NatsAccess::default(),
            tls: NatsTls::default(),
            prefix: "alluvium".to_owned(),
            replicas: 1,
            max_stream_bytes: None,
            retention_bytes: 1 << 30,
            retention_age: Duration::from_secs(24 * 60 * 60),
            max_unlanded_bytes: 256 << 20,
            max_message_bytes: 8 << 20,
            audit_bytes: 256 << 20,
            audit_age: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

/// As whom we connect to NATS.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum NatsAccess {
    /// As nobody.
    #[default]
    Open,
    /// With a user's name and password.
    User {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// With a token.
    Token(Secret),
    /// With an nkey: its seed.
    Nkey(Secret),
    /// With the text of a credentials file: a JWT and its seed.
    Credentials(Secret),
}

/// How the connection to NATS is protected. A server with `tls://` is asked for TLS in any case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NatsTls {
    /// Whether a connection without TLS is refused.
    pub required: bool,
    /// A file of the certificates that are trusted, instead of those of the machine.
    pub ca: Option<PathBuf>,
    /// The files of our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}
