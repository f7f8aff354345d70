//! What tests ask of the machine that they run on.

use std::fmt::Display;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether tests may not be skipped for want of a tool.
pub fn required() -> bool {
    std::env::var("ALLUVIUM_TEST_REQUIRE").is_ok_and(|value| value == "all")
}

/// Whether we are root, be it in a namespace of our own.
pub fn is_root() -> bool {
    user() == 0
}

fn user() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// Ports that no connection gets by itself: a server that is killed finds its own free again.
const PORTS: Range<u32> = 10_000..32_000;

/// A port of loopback that nobody listens on, and that no other test gets while this process lives: a
/// server binds it later, and one that is killed binds it again. Processes that ask at the same time
/// begin at different places.
pub fn free_port() -> u16 {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    static KEPT: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let (count, begin) = (PORTS.end - PORTS.start, std::process::id().wrapping_mul(7_919));
    let mut ports = (0..count).map(|_| {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
        (PORTS.start + begin.wrapping_add(drawn) % count) as u16
    });
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let (port, lock) = ports
        .find_map(|port| Some((port, reserve(port)?)).filter(|_| is_free(&port)))
        .expect("a port is free");
    KEPT.lock().unwrap().push(lock);
    port
}

/// What says to other processes of tests that this port is taken, while it is held.
fn reserve(port: u16) -> Option<File> {
    let folder = std::env::temp_dir().join(format!("alluvium-ports-{}", user()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = File::create(folder.join(port.to_string())).unwrap();
    file.try_lock().is_ok().then_some(file)
}

/// Sends a signal, such as `STOP`, to a process, or to the group `-ID`. False if it is not there.
pub fn signal(whom: impl Display, name: &str) -> bool {
    let args = [format!("-{name}"), "--".to_owned(), whom.to_string()];
    Command::new("kill").args(args).stderr(Stdio::null()).status().unwrap().success()
}

/// The processes that a process has started, and that have not ended.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything, stand how it is and whose it is.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        parent.is_some_and(|parent| parent == of.to_string())
    };
    ids.filter(is_child).collect()
}
