//! A project in a folder of its own, and the binary run on it.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};

use alluvium_testkit::{NatsServer, signal};
use serde_json::Value;

use crate::SmallDisk;

/// By this signal a process ends that is killed.
const SIGKILL: i32 = 9;

/// The settings of a project that serves no HTTP.
pub const QUIET: &str = "[http]\nenabled = false\n";

/// These settings, with the bus on NATS. The names of its streams begin with `prefix`, which is
/// `alluvium` where nothing is said.
pub fn on_nats(others: &str, server: &NatsServer, prefix: &str) -> String {
    let url = server.url();
    let nats = format!("[bus.nats]\nservers = [\"{url}\"]\nprefix = \"{prefix}\"\n");
    format!("{others}\n[bus]\ntype = \"nats\"\n\n{nats}")
}

/// The mapping under which [`crate::Workload`] writes its changes.
pub const MAP: &str = "op=op,sequence=seq,key=after.id,row=after";

/// The binary under test: `ALLUVIUM_BIN`, or the one that was built beside this test.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("ALLUVIUM_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        // A program stands beside it, a test in the folder `deps`.
        let ours = std::env::current_exe().unwrap();
        let places = ours.ancestors().skip(1).take(2).map(|folder| folder.join("alluvium"));
        let (beside, above) = (places.clone().next().unwrap(), places.last().unwrap());
        if beside.exists() { beside } else { above }
    });
    assert!(path.exists(), "{} is not there: run `make build` first", path.display());
    path
}

/// Takes the settings that this test's own surroundings have away from a command.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if ["ALLUVIUM_", "AWS_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// A project with the binary to run on it. Its folder goes when it does.
pub struct TestPlatform {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl TestPlatform {
    /// A project with these settings, systems and entities.
    pub fn new(settings: &str, systems: &Value, entities: &Value) -> Self {
        let platform = Self::empty();
        platform.write("alluvium.toml", settings);
        platform.write("systems.json", &systems.to_string());
        platform.write("entities.json", &entities.to_string());
        platform
    }

    /// A folder without a project.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("alluvium-test-").tempdir().unwrap();
        Self { folder, variables: Vec::new() }
    }

    /// A project with the one entity `shop.customers`, which the workload is for.
    pub fn shop() -> Self {
        let (systems, entities) = crate::workload::metadata();
        Self::new(QUIET, &systems, &entities)
    }

    /// Whether its folder stays when this goes.
    pub fn keep(&mut self, kept: bool) {
        self.folder.disable_cleanup(kept);
    }

    /// Sets a variable for every process to come.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The project's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of a table, such as `silver/shop/customers`.
    pub fn table(&self, name: &str) -> PathBuf {
        self.folder().join("data/lake").join(name)
    }

    /// Writes a file into the project, and says where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The command, ready to be run in the project's folder, with no settings from outside.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        without_settings(&mut command);
        command.args(args).current_dir(self.folder()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs to the end.
    pub fn run(&self, args: &[&str]) -> Finished {
        Finished::new(args, self.command(args).output().unwrap())
    }

    /// Runs to the end with leases that hold also where the machine stands still for a while. For a
    /// command from which nobody is to take over.
    pub fn run_holding(&self, args: &[&str]) -> Finished {
        self.run(&[args, &["--set", "runtime.lease_time=60s"]].concat())
    }

    /// Runs to the end where the disk is seen. A process that hangs is killed after so many seconds,
    /// and its exit code is no good one.
    pub fn run_on(&self, disk: &SmallDisk, args: &[&str], seconds: u64) -> Finished {
        let mut command = disk.seen_by(&self.command(args), seconds);
        Finished::new(args, command.output().unwrap())
    }

    /// Runs to the end, which must come within so many seconds. What it says stands in files whose
    /// names begin with `prefix`.
    pub fn run_within(&self, prefix: &str, args: &[&str], seconds: u64) -> Finished {
        let mut running = self.spawn_beside(prefix, args);
        let status = crate::until(&format!("the end of {args:?}"), seconds, || running.ended());
        Finished {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            code: status.code().unwrap_or(-1),
            stdout: fs::read_to_string(&running.stdout).unwrap(),
            stderr: running.stderr(),
        }
    }

    /// Runs to the end, with `input` on stdin.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Finished {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        Finished::new(args, output)
    }

    /// Runs to the end, which must be good, and gives the rows on stdout.
    pub fn rows(&self, args: &[&str]) -> Vec<Value> {
        let mut args = args.to_vec();
        args.extend(["-o", "ndjson"]);
        self.run(&args).ok().rows()
    }

    /// The rows that a statement gives.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        self.rows(&["query", sql])
    }

    /// The one number that a statement gives.
    pub fn number(&self, sql: &str) -> u64 {
        let rows = self.query(sql);
        let value = rows[0].as_object().unwrap().values().next().unwrap();
        value.as_u64().unwrap_or_else(|| panic!("{sql}: {value} is no count"))
    }

    /// Publishes a file of the workload, and waits until all layers have it.
    pub fn publish(&self, file: &Path) -> Finished {
        let file = file.to_str().unwrap();
        self.run(&["publish", "shop.customers", file, "--map", MAP, "--wait", "-o", "ndjson"])
    }

    /// Starts, and lets go on. What it says goes to `stdout.log` and `stderr.log` in the folder.
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_beside("", args)
    }

    /// The same for one of several: the names of its files begin with `prefix`.
    pub fn spawn_beside(&self, prefix: &str, args: &[&str]) -> Running {
        self.start(prefix, &mut self.command(args))
    }

    /// The same for one that reads its stdin, and the way there.
    pub fn spawn_fed(&self, prefix: &str, args: &[&str]) -> (Running, ChildStdin) {
        let mut running = self.start(prefix, self.command(args).stdin(Stdio::piped()));
        let stdin = running.child.stdin.take().unwrap();
        (running, stdin)
    }

    fn start(&self, prefix: &str, command: &mut Command) -> Running {
        let path = |name: &str| self.folder().join(format!("{prefix}{name}"));
        let log = |name: &str| fs::File::create(path(name)).unwrap();
        let child = command.stdout(log("stdout.log")).stderr(log("stderr.log")).spawn().unwrap();
        Running { child, stdout: path("stdout.log"), stderr: path("stderr.log") }
    }

    /// All checks hold.
    #[track_caller]
    pub fn assert_sound(&self) {
        let finished = self.run(&["verify", "-o", "ndjson"]);
        let wrong: Vec<_> =
            finished.rows().into_iter().filter(|row| row["holds"] != true).collect();
        assert!(wrong.is_empty() && finished.code == 0, "{wrong:#?}\n{}", finished.stderr);
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    args: Vec<String>,
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    fn new(args: &[&str], output: Output) -> Self {
        Self {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It ended with this code.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{:?}\n{}\n{}", self.args, self.stdout, self.stderr);
        self
    }

    /// It ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// What it said on stderr holds all of these, however its lines are broken.
    #[track_caller]
    pub fn told(self, parts: &[&str]) -> Self {
        let plain: String =
            self.stderr.chars().filter(|c| !c.is_whitespace() && *c != '│').collect();
        for part in parts {
            let wanted: String = part.chars().filter(|c| !c.is_whitespace()).collect();
            assert!(plain.contains(&wanted), "`{part}` is not said:\n{}", self.stderr);
        }
        self
    }

    /// The rows on stdout: all of it must be NDJSON.
    #[track_caller]
    pub fn rows(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{:?}: {e}: {line}", self.args))
        };
        self.stdout.lines().map(parse).collect()
    }
}

/// A process that goes on. It is killed when this goes.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it with SIGKILL; true if it was still running.
    pub fn kill(mut self) -> bool {
        self.end().is_none()
    }

    /// Ends it with SIGKILL. How it had ended before that by itself, if it had.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        (status.signal() != Some(SIGKILL)).then_some(status)
    }

    /// Asks it to stop with SIGTERM, and waits until it has.
    pub fn terminate(mut self, seconds: u64) -> ExitStatus {
        self.signal("TERM");
        crate::until("the end after SIGTERM", seconds, || self.ended())
    }

    /// Sends it a signal. After `STOP` all of it stands still: where the machine is busy, its threads
    /// run on for a while until each has heard of it.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.id(), name), "SIG{name} could not be sent");
        if name == "STOP" {
            crate::until("the stop of all threads", 60, || self.stands_still().then_some(()));
        }
    }

    fn stands_still(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let stats =
            tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
        // Behind the name, which may hold anything, stands how the thread is.
        let mut states = stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next());
        states.all(|state| state == 'T')
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// What it has said so far, and what it has given.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap() + &self.stderr()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
