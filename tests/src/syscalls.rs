//! What a process asks of the disk, in its order, as strace tells it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A call that makes something durable, or gives it a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// The bytes of a file, or the names in a folder, are on the disk.
    Synced(PathBuf),
    /// A file is about to get a second name, or another one.
    Naming {
        /// The name it has.
        from: PathBuf,
        /// The name it gets.
        to: PathBuf,
    },
}

/// The command, to be run with its calls written to `trace`; `None` where strace is not there.
pub fn traced(command: &Command, trace: &Path) -> Option<Command> {
    let mut outer = Command::new("strace");
    let calls = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2";
    outer.args(["-f", "-y", "-qq", "-s", "4096", "-e", calls, "-o"]).arg(trace);
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(!crate::required(), "strace is not installed (Debian package `strace`)");
        eprintln!("SKIPPED: strace is not installed (Debian package `strace`)");
        return None;
    }
    outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    outer.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    Some(outer)
}

/// The calls of a trace. A sync counts when it has returned, a naming from when it was asked for.
pub fn read(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    for line in trace.lines() {
        let (thread, said) = line.split_once(char::is_whitespace).unwrap();
        let said = said.trim_start();
        if let Some(begun) = said.strip_suffix(" <unfinished ...>") {
            calls.extend(naming(begun));
            unfinished.insert(thread, begun);
        } else if said.starts_with("<... ") {
            let begun = unfinished.remove(thread).unwrap_or_default();
            calls.extend(synced(begun).filter(|_| said.ends_with(" = 0")));
        } else {
            calls.extend(naming(said));
            calls.extend(synced(said).filter(|_| said.ends_with(" = 0")));
        }
    }
    calls
}

fn synced(said: &str) -> Option<Call> {
    let rest = said.strip_prefix("fsync(").or_else(|| said.strip_prefix("fdatasync("))?;
    let (_, path) = rest.split_once('<')?;
    Some(Call::Synced(path.split_once('>')?.0.into()))
}

fn naming(said: &str) -> Option<Call> {
    if !said.starts_with("link") && !said.starts_with("rename") {
        return None;
    }
    let mut quoted = said.split('"').skip(1).step_by(2);
    Some(Call::Naming { from: quoted.next()?.into(), to: quoted.next()?.into() })
}
