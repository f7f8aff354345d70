//! What happened, counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The counts of a run.
pub(crate) struct Tally {
    began: Instant,
    /// When was said last how it goes.
    told: Instant,
    /// Workers that were ended by SIGKILL.
    pub kills: u64,
    /// Of them, those that had got work since their start.
    pub at_work: u64,
    /// Workers that were stopped and woken.
    pub pauses: u64,
    /// Of them, those whose leases ran out meanwhile.
    pub overslept: u64,
    /// Workers that were ended by SIGTERM.
    pub terminations: u64,
    /// How often the disk was full.
    pub full_disks: u64,
    /// How often of them a worker said so.
    pub full_disks_met: u64,
    /// Workers that said so.
    pub starved: u64,
    /// How often the bus's server was killed and started again, or hung.
    pub bus_outages: u64,
    /// How often the ledger's was.
    pub ledger_outages: u64,
    /// How often all were killed at once, where there were several.
    pub killed_together: u64,
    /// How often the key index was lost or replaced by an older one.
    pub indexes: u64,
    /// How often of them by an older one.
    pub older_indexes: u64,
    /// How often the tables were looked after by hand, killed or not.
    pub maintained: u64,
    /// Workers started.
    pub workers: u64,
    /// The most memory that a worker had, in KiB.
    pub memory: u64,
    /// The most that a command had at the end, in KiB.
    pub command_memory: u64,
    /// Records that silver had landed when it was asked last.
    pub landed: u64,
    /// When they became more.
    grew: Instant,
}

impl Default for Tally {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            told: now,
            kills: 0,
            at_work: 0,
            pauses: 0,
            overslept: 0,
            terminations: 0,
            full_disks: 0,
            full_disks_met: 0,
            starved: 0,
            bus_outages: 0,
            ledger_outages: 0,
            killed_together: 0,
            indexes: 0,
            older_indexes: 0,
            maintained: 0,
            workers: 0,
            memory: 0,
            command_memory: 0,
            landed: 0,
            grew: now,
        }
    }
}

impl Tally {
    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it is time to say how it goes.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.told.elapsed() > Duration::from_secs(3);
        if due {
            self.told = Instant::now();
        }
        due
    }

    /// Takes down how much silver has landed. Returns how long nothing came.
    pub(crate) fn land(&mut self, records: u64) -> Duration {
        if records > self.landed {
            (self.landed, self.grew) = (records, Instant::now());
        }
        self.grew.elapsed()
    }

    /// How often a page may have been broken off, or come too late.
    pub(crate) fn interruptions(&self) -> u64 {
        self.kills + self.pauses + self.terminations + self.bus_outages + self.ledger_outages
    }

    /// All counts, as members.
    pub(crate) fn json(&self) -> Value {
        json!({
            "kills": self.kills, "at_work": self.at_work, "pauses": self.pauses,
            "overslept": self.overslept, "terminations": self.terminations,
            "full_disks": self.full_disks, "full_disks_met": self.full_disks_met,
            "bus_outages": self.bus_outages, "ledger_outages": self.ledger_outages,
            "killed_together": self.killed_together, "indexes": self.indexes,
            "older_indexes": self.older_indexes, "maintained": self.maintained, "workers": self.workers,
            "memory_mb": self.memory / 1024, "command_mb": self.command_memory / 1024,
            "seconds": self.elapsed().as_secs()
        })
    }
}
