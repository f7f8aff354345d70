//! What tests ask of the machine that they run on.

use std::fmt::Display;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

/// Whether tests may not be skipped for want of a tool.
pub fn required() -> bool {
    std::env::var("ALLUVIUM_TEST_REQUIRE").is_ok_and(|value| value == "all")
}

/// Whether we are root, be it in a namespace of our own.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A port of loopback that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Sends a signal, such as `STOP`, to a process, or to the group `-ID`. False if it is not there.
pub fn signal(whom: impl Display, name: &str) -> bool {
    let args = [format!("-{name}"), "--".to_owned(), whom.to_string()];
    Command::new("kill").args(args).stderr(Stdio::null()).status().unwrap().success()
}
