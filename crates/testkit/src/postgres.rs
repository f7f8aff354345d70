//! PostgreSQL.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::{free_port, is_root};
use crate::server::{Server, find, folder};

/// A PostgreSQL server with the one database `alluvium`. It refuses to run as root, so that it runs
/// as the user that Debian's package made where tests run as root.
pub struct PostgresServer {
    /// The process.
    pub server: Server,
    port: u16,
}

impl PostgresServer {
    /// Whether there is one to start; where there is none, that is said.
    pub fn is_there() -> bool {
        Programs::find().is_some()
    }

    /// Starts one.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// Starts one with these settings, such as `wal_level=logical`.
    pub fn with(settings: &[&str]) -> Option<Self> {
        let programs = Programs::find()?;
        let (folder, port) = (folder("postgres"), free_port());
        programs.owns(folder.path());
        let data = folder.path().join("data");
        let mut initdb = programs.command("initdb");
        initdb.args(["-U", "alluvium", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        succeed(initdb.arg("-D").arg(&data));
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let (ask, sockets) = (programs.clone(), folder.path().to_owned());
        let launch = move || {
            let mut command = programs.command("postgres");
            // A killed server leaves this behind, and would believe that it still runs.
            drop(std::fs::remove_file(data.join("postmaster.pid")));
            command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
            command.arg("-k").arg(&sockets).args(["-c", "fsync=off"]);
            for setting in &settings {
                command.args(["-c", setting]);
            }
            command
        };
        let server = Server::start("postgres", folder, launch, move || ask.answers(port));
        let this = Self { server, port };
        this.sql("postgres", "CREATE DATABASE alluvium");
        Some(this)
    }

    /// Where it listens, such as `postgres://alluvium@127.0.0.1:5432/alluvium`.
    pub fn url(&self) -> String {
        format!("postgres://alluvium@127.0.0.1:{}/alluvium", self.port)
    }

    /// Makes one more database, and gives its address.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://alluvium@127.0.0.1:{}/{name}", self.port)
    }

    /// What `psql` prints for a statement.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = Programs::find().unwrap().command("psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "alluvium"]);
        succeed(command.args(["-d", database, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }
}

/// Where the programs are, and whom they run as.
#[derive(Clone)]
struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Programs {
    fn find() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let places = versions.map(|entry| entry.unwrap().path().join("bin/initdb"));
        let places: Vec<_> = places.collect();
        let initdb = find("initdb", &places, "Debian package `postgresql`")?;
        let folder = initdb.canonicalize().unwrap().parent().unwrap().to_owned();
        Some(Self { folder, user: is_root().then(postgres_user) })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
        command
    }

    fn owns(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn answers(&self, port: u16) -> bool {
        let mut command = self.command("pg_isready");
        command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        command.status().unwrap().success()
    }
}

fn postgres_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("a user `postgres`").split(':').skip(2);
    let mut number = || fields.next().unwrap().parse().unwrap();
    (number(), number())
}

fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
