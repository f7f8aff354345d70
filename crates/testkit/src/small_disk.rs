//! A disk that is soon full: a small filesystem in memory. Mounting one needs root; others get it in
//! a namespace of their own, where the binary is run too.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A small filesystem. It goes when this does.
pub struct SmallDisk {
    folder: tempfile::TempDir,
    /// The shell in the namespace where it is mounted; none where we may mount it ourselves.
    namespace: Option<Child>,
}

impl SmallDisk {
    /// A filesystem of so many KiB. Where none can be had, that is said, and a failure if tests may
    /// not be skipped.
    pub fn new(kib: u32) -> Option<Self> {
        let disk = Self::mounted(kib, None).or_else(|| Self::in_namespace(kib));
        assert!(disk.is_some() || !crate::required(), "no small filesystem can be mounted");
        told(disk)
    }

    /// A filesystem that this process sees too: only root can have one. Where root gets none, that is
    /// a failure as well if tests may not be skipped.
    pub fn in_sight(kib: u32) -> Option<Self> {
        let disk = Self::mounted(kib, None);
        let may_miss = !crate::is_root() || !crate::required();
        assert!(disk.is_some() || may_miss, "no small filesystem can be mounted");
        told(disk)
    }

    /// The same as [`SmallDisk::new`], as somebody gets it who is not root.
    pub fn in_namespace(kib: u32) -> Option<Self> {
        Self::mounted(kib, Some(namespace()?))
    }

    fn mounted(kib: u32, namespace: Option<Child>) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("alluvium-disk-").tempdir().unwrap();
        let disk = Self { folder, namespace };
        disk.shell(&format!("mount -t tmpfs -o size={kib}k tmpfs \"$0\"")).then_some(disk)
    }

    /// Where it is mounted. Only [`SmallDisk::seen_by`] sees what is on it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves only so many KiB.
    pub fn fill(&self, left: u32) {
        let script = format!(
            "dd if=/dev/zero of=\"$0/left\" bs=1k count={left} && \
             {{ dd if=/dev/zero of=\"$0/filler\" bs=4k; rm \"$0/left\"; }}"
        );
        assert!(self.shell(&script), "it cannot be filled");
    }

    /// Makes room again.
    pub fn make_room(&self) {
        self.make_room_for(64);
    }

    /// Makes it so many MiB in all.
    pub fn make_room_for(&self, mib: u32) {
        assert!(self.shell(&format!("mount -o remount,size={mib}m \"$0\"")), "it does not grow");
    }

    /// Leaves only so many KiB, without a byte written. False where more came meanwhile than that.
    pub fn squeeze(&self, left: u32) -> bool {
        // Without a size there would be no bound: an empty disk keeps a page.
        self.shell(&format!(
            "used=$(df -k --output=used \"$0\" | tail -n 1) && size=$((used + {left})) && \
             mount -o remount,size=$((size > 0 ? size : 4))k \"$0\""
        ))
    }

    /// The command, to be run where the filesystem is seen, and killed if it has not ended after so
    /// many seconds.
    pub fn seen_by(&self, command: &Command, seconds: u64) -> Command {
        let folder = command.get_current_dir().unwrap_or(Path::new("/"));
        let mut outer = Command::new("timeout");
        outer.args(["--signal=KILL", &seconds.to_string()]).args(self.enter(folder));
        outer.arg(command.get_program()).args(command.get_args());
        outer.current_dir(folder).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        outer
    }

    /// What to put before a command that is to be run in `folder`.
    fn enter(&self, folder: &Path) -> Vec<String> {
        let Some(shell) = &self.namespace else { return Vec::new() };
        let words = ["nsenter", "--preserve-credentials", "--user", "--mount", "--target"];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.extend([shell.id().to_string(), format!("--wdns={}", folder.display())]);
        words
    }

    fn shell(&self, script: &str) -> bool {
        let mut command = Command::new("env");
        command.args(self.enter(Path::new("/"))).args(["sh", "-c", script]).arg(self.path());
        let output = command.stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    }
}

fn told(disk: Option<SmallDisk>) -> Option<SmallDisk> {
    if disk.is_none() {
        eprintln!("SKIPPED: no small filesystem can be mounted");
    }
    disk
}

/// A shell that waits in a namespace where it may mount.
fn namespace() -> Option<Child> {
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", "echo ready; read -r line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let ready = child.stdout.as_mut().is_some_and(|out| out.read_exact(&mut [0; 6]).is_ok());
    if ready {
        return Some(child);
    }
    drop(child.wait());
    None
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        match self.namespace.take() {
            // The filesystem goes with its namespace, and that with its last process.
            Some(mut shell) => {
                drop(shell.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
                drop(shell.wait());
            }
            None => {
                self.shell("umount \"$0\" || umount --lazy \"$0\"");
            }
        }
    }
}
