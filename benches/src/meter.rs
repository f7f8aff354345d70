//! What a step or a turn costs: time, processor time, bytes written, as the kernel counts them.

use std::fs;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use alluvium_model::{Clock, SystemClock};
use serde_json::{Value, json};

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time of all threads, to a hundredth of a second.
    pub(crate) cpu: Duration,
    /// Bytes sent to the disk, whole pages; those of children that have ended too.
    pub(crate) written: u64,
    /// Resident bytes now.
    pub(crate) resident: u64,
    /// The most there were.
    pub(crate) peak: u64,
}

impl Usage {
    /// Of a process by its id, or `self`. Zeros once it has ended.
    pub(crate) fn of(process: &str) -> Self {
        let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let (status, io) = (read("status"), read("io"));
        let kilobytes = |name| field(&status, name) << 10;
        Self {
            cpu: ticks(&read("stat"), 11),
            written: field(&io, "write_bytes:"),
            resident: kilobytes("VmRSS:"),
            peak: kilobytes("VmHWM:"),
        }
    }

    /// Processor time of this process's children that have ended.
    pub(crate) fn cpu_of_children() -> Duration {
        ticks(&fs::read_to_string("/proc/self/stat").unwrap_or_default(), 13)
    }

    /// What was used since.
    pub(crate) fn since(self, before: Self, wall: Duration) -> Cost {
        Cost {
            wall,
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// The number behind a name that a line begins with.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Two neighbouring fields of a stat line, counted after the command's name, as one time.
fn ticks(stat: &str, first: usize) -> Duration {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after.split_whitespace().skip(first).take(2);
    // The kernel counts in hundredths of a second on every Linux that we build for.
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// The memory that the machine has left, in bytes.
pub(crate) fn memory_left() -> u64 {
    field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:") << 10
}

/// What something cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) written: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.written += other.written;
    }
}

impl Cost {
    /// The mean of several.
    pub(crate) fn mean<'a>(costs: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0);
        for cost in costs {
            sum += *cost;
            count += 1;
        }
        let count = count.max(1);
        let (wall, cpu) = (sum.wall / count, sum.cpu / count);
        Self { wall, cpu, written: sum.written / u64::from(count) }
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "seconds": self.wall.as_secs_f64(),
            "cpu_seconds": self.cpu.as_secs_f64(),
            "bytes_written": self.written,
        })
    }

    pub(crate) fn of_json(value: &Value) -> Self {
        let seconds = |name: &str| Duration::from_secs_f64(value[name].as_f64().unwrap_or(0.0));
        Self {
            wall: seconds("seconds"),
            cpu: seconds("cpu_seconds"),
            written: value["bytes_written"].as_u64().unwrap_or(0),
        }
    }
}

/// Measures this process from its making on.
pub(crate) struct Meter {
    started: Instant,
    before: Usage,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { started: SystemClock.instant(), before: Usage::of("self") }
    }

    pub(crate) fn stop(&self) -> Cost {
        let wall = SystemClock.since(self.started);
        Usage::of("self").since(self.before, wall)
    }
}

/// The value below which this part of all lies; zero of none.
pub(crate) fn quantile(mut times: Vec<Duration>, part: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
