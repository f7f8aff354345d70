//! NATS with JetStream: one server, or a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machine::free_port;
use crate::server::{Server, find, folder, folder_in, http_get, listens};

/// So long the servers of a cluster may take until they have found each other.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server that is alone answers once its JetStream has its streams.
const HEALTH: &str = "/healthz";
/// What any server answers. One of a cluster is healthy only with others.
const ANYTHING: &str = "/varz";

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
        Self::launch(folder("nats"), "", config, HEALTH)
    }

    /// Starts one whose folder is made below `parent`, with these further lines in the block that
    /// configures JetStream.
    pub fn within(parent: &Path, jetstream: &str) -> Option<Self> {
        Self::launch(folder_in(parent, "nats"), jetstream, "", HEALTH)
    }

    /// Starts one that is ready when it listens, and its monitoring answers for `sign`.
    fn launch(
        folder: tempfile::TempDir,
        jetstream: &str,
        config: &str,
        sign: &'static str,
    ) -> Option<Self> {
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
            http_get(monitor, sign).is_some() && listens(port)
        });
        Some(Self { server, port, monitor })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
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

/// NATS servers that keep streams together.
pub struct NatsCluster {
    servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts so many servers, and waits until they have found each other.
    pub fn start(count: usize) -> Option<Self> {
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let routes: Vec<String> =
            ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let servers = ports.iter().enumerate().map(|(index, port)| {
            let config = format!(
                "server_name: {}\ncluster {{\nname: alluvium\nlisten: 127.0.0.1:{port}\n\
                 routes: {routes:?}\n}}",
                name(index)
            );
            NatsServer::launch(folder("nats"), "", &config, ANYTHING)
        });
        let cluster = Self { servers: servers.collect::<Option<_>>()? };
        cluster.wait();
        Some(cluster)
    }

    /// Where they listen.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// The server that the others know by this name, as they tell who leads.
    pub fn named(&mut self, wanted: &str) -> &mut NatsServer {
        let index = (0..self.servers.len()).find(|index| name(*index) == wanted);
        &mut self.servers[index.expect("a server has this name")]
    }

    /// Waits until all servers follow one of them.
    pub fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.servers.iter().all(|server| server.monitor(HEALTH).is_some()) {
            assert!(Instant::now() < deadline, "the servers do not find each other");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a server of a cluster is called.
fn name(index: usize) -> String {
    format!("server-{index}")
}

fn program() -> Option<PathBuf> {
    find("nats-server", &[], "Debian package `nats-server`")
}
