//! Time and processor time of a step.

use std::fmt;
use std::time::{Duration, Instant};

/// A step's figures.
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) records: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// The largest resident size of the process that did it, in MB, where it had one of its own.
    pub(crate) peak_mb: Option<u64>,
}

impl Row {
    pub(crate) const HEADER: &str = "step                      records     wall s      cpu s       rows/s   rows/cpu-s  peak MB";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = |time: Duration| self.records as f64 / time.as_secs_f64().max(1e-9);
        let peak = self.peak_mb.map_or_else(|| "-".to_owned(), |mb| mb.to_string());
        write!(
            f,
            "{:<22} {:>10} {:>10.3} {:>10.3} {:>12.0} {:>12.0} {:>8}",
            self.step,
            self.records,
            self.wall.as_secs_f64(),
            self.cpu.as_secs_f64(),
            per(self.wall),
            per(self.cpu),
            peak
        )
    }
}

/// Runs from its making to [`Meter::stop`].
pub(crate) struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: own_cpu() }
    }

    pub(crate) fn stop(self, step: impl Into<String>, records: u64) -> Row {
        let wall = self.start.elapsed();
        let cpu = own_cpu().saturating_sub(self.cpu);
        Row { step: step.into(), records, wall, cpu, peak_mb: None }
    }
}

/// Processor time of this process so far: user and system, as the kernel counts it.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_of(&stat, 11)
}

/// Two neighbouring fields of a stat line, counted after the command's name, as one time.
pub(crate) fn cpu_of(stat: &str, field: usize) -> Duration {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after.split_whitespace().skip(field).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // The kernel counts in hundredths of a second on every Linux that we build for.
    Duration::from_millis(ticks * 10)
}
