//! NATS with JetStream.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::free_port;
use crate::server::{Server, find, folder, folder_in, http_get, listens};

/// A NATS server with JetStream on disk.
pub struct NatsServer {
    /// The process.
    pub server: Server,
    port: u16,
    monitor: u16,
}

impl NatsServer {
    /// Whether there is one to start; where there is none, that is said.
    pub fn is_there() -> bool {
        program().is_some()
    }

    /// Starts one, without accounts or TLS.
    pub fn start() -> Option<Self> {
        Self::with("")
    }

    /// Starts one with these further lines of configuration.
    pub fn with(config: &str) -> Option<Self> {
        Self::launch(folder("nats"), "", config)
    }

    /// Starts one whose folder is made below `parent`, with these further lines in the block that
    /// configures JetStream.
    pub fn within(parent: &Path, jetstream: &str) -> Option<Self> {
        Self::launch(folder_in(parent, "nats"), jetstream, "")
    }

    fn launch(folder: tempfile::TempDir, jetstream: &str, config: &str) -> Option<Self> {
        let program = program()?;
        let (port, monitor) = (free_port(), free_port());
        let file = folder.path().join("nats.conf");
        let store = folder.path().join("store");
        let base = format!(
            "listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\n\
             jetstream {{\nstore_dir: {:?}\n{jetstream}\n}}\n{config}\n",
            store.to_str().unwrap()
        );
        std::fs::write(&file, base).unwrap();
        let launch = move || {
            let mut command = Command::new(&program);
            command.arg("-c").arg(&file);
            command
        };
        let server = Server::start("nats-server", folder, launch, move || {
            // It is monitored before it listens to clients.
            http_get(monitor, "/healthz").is_some() && listens(port)
        });
        Some(Self { server, port, monitor })
    }

    /// Where it listens, such as `nats://127.0.0.1:4222`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What its monitoring tells, such as `/jsz?streams=true`.
    pub fn monitor(&self, path: &str) -> Option<String> {
        http_get(self.monitor, path)
    }
}

fn program() -> Option<PathBuf> {
    find("nats-server", &[], "Debian package `nats-server`")
}
