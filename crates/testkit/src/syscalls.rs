//! What a process asks of the disk, in its order, as strace tells it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The calls that make something durable, or give it another name.
pub const NAMING: &str = "fsync,fdatasync,link,linkat,rename,renameat,renameat2";
/// The calls that make files and folders, write, say something, and make something durable.
pub const WRITING: &str = "fsync,fdatasync,openat,mkdir,mkdirat,write,writev,pwrite64";

/// What a process does to the disk, or says.
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
    /// A file or a folder is there under this name, perhaps anew.
    Made(PathBuf),
    /// A file has got bytes.
    Written {
        /// The file, or what else was written to.
        path: PathBuf,
        /// How many.
        bytes: u64,
    },
    /// The process is about to say this on stdout, shortened if it is long.
    Said(String),
}

/// The command, to be run with those of its `calls` written to `trace`; `None` where strace is not
/// there.
pub fn traced(command: &Command, calls: &str, trace: &Path) -> Option<Command> {
    let mut outer = Command::new("strace");
    let calls = format!("trace={calls}");
    // Names of files are told in full, whatever the length of other texts.
    outer.args(["-f", "-y", "-qq", "-s", "256", "-e", &calls, "-o"]).arg(trace);
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

/// The calls of a trace. What makes, writes or syncs counts when it has returned, a naming and what
/// is said from when it was asked for.
pub fn read(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    for line in trace.lines() {
        let (thread, said) = line.split_once(char::is_whitespace).unwrap();
        let said = said.trim_start();
        if let Some(begun) = said.strip_suffix(" <unfinished ...>") {
            calls.extend(asked(begun));
            unfinished.insert(thread, begun);
        } else if said.starts_with("<... ") {
            let begun = unfinished.remove(thread).unwrap_or_default();
            calls.extend(done(begun, said));
        } else {
            calls.extend(asked(said));
            calls.extend(done(said, said));
        }
    }
    calls
}

/// What counts from when it was asked for.
fn asked(said: &str) -> Option<Call> {
    let (name, arguments) = said.split_once('(')?;
    if name == "write" && arguments.starts_with("1<") {
        return Some(Call::Said(quoted(arguments).next()?.to_owned()));
    }
    if !name.starts_with("link") && !name.starts_with("rename") {
        return None;
    }
    let mut quoted = quoted(arguments);
    Some(Call::Naming { from: quoted.next()?.into(), to: quoted.next()?.into() })
}

/// What counts when it has returned, which stands at the end of `answer`.
fn done(begun: &str, answer: &str) -> Option<Call> {
    let (_, answer) = answer.rsplit_once(" = ")?;
    // After a number that is a file stands its path, after an error its name.
    let answer: u64 = answer.split('<').next()?.parse().ok()?;
    let (name, arguments) = begun.split_once('(')?;
    match name {
        "fsync" | "fdatasync" => Some(Call::Synced(descriptor(arguments)?)),
        "write" | "writev" | "pwrite64" => {
            Some(Call::Written { path: descriptor(arguments)?, bytes: answer })
        }
        "openat" if !arguments.contains("O_CREAT") => None,
        "openat" | "mkdir" | "mkdirat" => Some(Call::Made(quoted(arguments).next()?.into())),
        _ => None,
    }
}

/// The path of the descriptor that a call begins with.
fn descriptor(arguments: &str) -> Option<PathBuf> {
    let (_, path) = arguments.split_once('<')?;
    Some(path.split_once('>')?.0.into())
}

fn quoted(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_when_it_has_returned_but_what_is_said_from_when_it_was_asked_for() {
        let trace = r#"7 openat(AT_FDCWD</>, "/d/0.jnl", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 9</d/0.jnl>
7 openat(AT_FDCWD</>, "/d", O_RDONLY|O_CLOEXEC) = 8</d>
7 mkdir("/d/e", 0777)               = -1 EEXIST (File exists)
7 write(9</d/0.jnl>, "\1\"<\0 = "..., 60012 <unfinished ...>
8 write(1<pipe:[12]>, "ack 1 3\n", 8 <unfinished ...>
7 <... write resumed>)              = 60012
7 fsync(9</d/0.jnl> <unfinished ...>
8 <... write resumed>)              = 8
7 <... fsync resumed>)              = 0
7 fdatasync(8</d>)                  = -1 EIO (Input/output error)
7 rename("/d/a", "/d/b")            = 0
7 fsync(8</d> <unfinished ...>
7 <... fsync resumed>)              = ?
8 +++ killed by SIGKILL +++"#;
        let expected = [
            Call::Made("/d/0.jnl".into()),
            Call::Said(r"ack 1 3\n".to_owned()),
            Call::Written { path: "/d/0.jnl".into(), bytes: 60_012 },
            Call::Written { path: "pipe:[12]".into(), bytes: 8 },
            Call::Synced("/d/0.jnl".into()),
            Call::Naming { from: "/d/a".into(), to: "/d/b".into() },
        ];
        assert_eq!(read(trace), expected);
    }
}
