//! What tests ask of the machine that they run on.

use std::fmt::Display;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether tests may not be skipped for want of a tool.
pub fn required() -> bool {
    std::env::var("ALLUVIUM_TEST_REQUIRE").is_ok_and(|value| value == "all")
}

/// Whether we are root, be it in a namespace of our own.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Ports that no connection gets by itself: a server that is killed finds its own free again.
const PORTS: Range<u32> = 10_000..32_000;

/// A port of loopback that nobody listens on now. Processes that ask at the same time begin at
/// different places.
pub fn free_port() -> u16 {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let (count, begin) = (PORTS.end - PORTS.start, std::process::id().wrapping_mul(7_919));
    let mut ports = (0..count).map(|_| {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
        (PORTS.start + begin.wrapping_add(drawn) % count) as u16
    });
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).expect("a port is free")
}

/// Sends a signal, such as `STOP`, to a process, or to the group `-ID`. False if it is not there.
pub fn signal(whom: impl Display, name: &str) -> bool {
    let args = [format!("-{name}"), "--".to_owned(), whom.to_string()];
    Command::new("kill").args(args).stderr(Stdio::null()).status().unwrap().success()
}
