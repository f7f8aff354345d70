//! How much memory a process has, as the kernel tells: in KiB, and 0 where it has ended.

/// What it has now.
pub fn resident(process: u32) -> u64 {
    field(process, "VmRSS:")
}

/// The most that it had so far.
pub fn peak(process: u32) -> u64 {
    field(process, "VmHWM:")
}

fn field(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
