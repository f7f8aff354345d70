//! A program that serves on a port of loopback.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{children, required, signal};

/// So long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many lines of what it said are printed where a test failed.
const TOLD: usize = 30;

/// A running server. It is killed when this goes.
pub struct Server {
    name: String,
    folder: tempfile::TempDir,
    launch: Box<dyn Fn() -> Command + Send + Sync>,
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    child: Option<Child>,
}

impl Server {
    /// Starts what `launch` describes, and waits until `is_ready`.
    pub fn start(
        name: &str,
        folder: tempfile::TempDir,
        launch: impl Fn() -> Command + Send + Sync + 'static,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut server = Self {
            name: name.to_owned(),
            folder,
            launch: Box::new(launch),
            is_ready: Box::new(is_ready),
            child: None,
        };
        server.resume();
        server
    }

    /// The folder with all it has, and `log.txt` with all it said.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The id of its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it with SIGKILL; what it had not written is lost.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // All of it: a server of many processes leaves none behind.
        self.signal_all(&child, "KILL");
        child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.sent(signal(child.id(), "TERM"), "TERM");
        child.wait().unwrap();
    }

    /// Starts it again in the same folder, on the same port, and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = (self.launch)();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.process_group(0).spawn().unwrap());
        self.wait();
    }

    /// Stops it where it stands, as a machine that hangs.
    pub fn freeze(&self) {
        self.signal_all(self.child.as_ref().unwrap(), "STOP");
    }

    /// Lets a stopped one go on.
    pub fn thaw(&self) {
        self.signal_all(self.child.as_ref().unwrap(), "CONT");
    }

    /// Each process of PostgreSQL that serves somebody is in a group of its own.
    fn signal_all(&self, child: &Child, name: &str) {
        self.signal_group(child, name);
        for of_it in children(child.id()) {
            // It may have ended meanwhile.
            signal(of_it, name);
        }
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Who answers may be another one, where this one ended.
            let ready = (self.is_ready)();
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let late = !ready && Instant::now() > deadline;
            assert!(ended.is_none() && !late, "{}: {ended:?}\n{}", self.name, self.said());
            if ready {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal_group(&self, child: &Child, name: &str) {
        self.sent(signal(format!("-{}", child.id()), name), name);
    }

    fn sent(&self, sent: bool, name: &str) {
        assert!(sent, "{} was not sent SIG{name}", self.name);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    /// Prints how it stands, and the end of what it said, where a test failed.
    fn tell(&mut self) {
        let state = self.child.as_mut().map(Child::try_wait);
        let said = self.said();
        let last = said.lines().count().saturating_sub(TOLD);
        let said = said.lines().skip(last).collect::<Vec<_>>().join("\n");
        eprintln!("{} (has ended: {state:?}) said at last:\n{said}", self.name);
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        if let Some(child) = &self.child {
            self.signal_group(child, "CONT");
        }
        self.kill();
    }
}

/// A folder for a server.
pub(crate) fn folder(name: &str) -> tempfile::TempDir {
    folder_in(&std::env::temp_dir(), name)
}

/// The same, below a folder of the caller's.
pub(crate) fn folder_in(parent: &Path, name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("alluvium-{name}-")).tempdir_in(parent).unwrap()
}

/// The program at one of these paths, or in `PATH`; or a visible skip.
pub(crate) fn find(program: &str, places: &[PathBuf], package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = places.iter().cloned().chain(in_path).find(|path| path.is_file());
    if found.is_none() {
        assert!(!required(), "{program} is not there: {package}");
        eprintln!("SKIPPED: {program} is not there: {package}");
    }
    found
}

/// Whether somebody listens on a port of loopback.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The body of an answer 200, if there is one.
pub fn http_get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}
