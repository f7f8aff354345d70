//! What is done to the workers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::drive::{Chaos, HANGS, TICK};
use super::faults::{Fault, Outage, Part};
use super::fleet::{Excuse, Worker};
use super::ground::LEASE;
use crate::platform::copy;

/// So long the first full disk may take until somebody meets it.
const MEETS: Duration = Duration::from_secs(20);
/// So long a worker goes on until the key index that it began with is called older.
const AGES: Duration = Duration::from_secs(2);

impl Chaos {
    /// A fault comes true. The clocks stand still as long as it lasts: who is kept from landing
    /// anything is not to be held to it.
    pub(super) fn meet(&mut self, fault: Fault) {
        let began = Instant::now();
        self.strike(fault);
        let lasted = began.elapsed();
        self.waits.stood_still(lasted);
        self.heard += lasted;
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => {
                if let Some(at) = self.any() {
                    self.kill(at);
                }
            }
            Fault::KillAll => {
                self.tally.killed_together += u64::from(self.fleet.len() > 1);
                self.kill_all();
            }
            Fault::Pause => {
                self.pause(Duration::from_millis(200));
            }
            Fault::Oversleep => {
                let slept = self.pause(LEASE + Duration::from_millis(500));
                self.tally.overslept += u64::from(slept);
            }
            Fault::Terminate => self.terminate(),
            Fault::FullDisk => self.fill_disk(),
            Fault::LostIndex | Fault::OldIndex => self.rob(fault == Fault::OldIndex),
            Fault::Maintain => self.call_for_upkeep(),
            Fault::Outage(part) => self.outage(part),
        }
    }

    /// Kills one, and tells in which place it worked.
    fn kill(&mut self, at: usize) -> u64 {
        let worker = self.fleet.remove(at);
        self.put_down(worker)
    }

    /// Kills the one that comes and goes, or else any, and starts upkeep in the place of the first.
    fn call_for_upkeep(&mut self) {
        let place = self.options.staying();
        let there = self.fleet.iter().position(|worker| worker.slot == place);
        if let Some(at) = there.or_else(|| self.any()) {
            self.kill(at);
        }
        self.maintain = true;
        self.fill();
    }

    pub(super) fn kill_all(&mut self) {
        for worker in std::mem::take(&mut self.fleet) {
            self.put_down(worker);
        }
    }

    fn put_down(&mut self, mut worker: Worker) -> u64 {
        self.tally.memory = self.tally.memory.max(worker.memory());
        let there = worker.kill();
        self.tally.kills += u64::from(there);
        self.tally.at_work += u64::from(there && worker.is_at_work());
        self.gone(&worker, false);
        worker.slot
    }

    fn any(&mut self) -> Option<usize> {
        let count = self.fleet.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// Stops one for a while that is no shorter than `least`. False where there is none.
    fn pause(&mut self, least: Duration) -> bool {
        let Some(at) = self.any() else { return false };
        self.fleet[at].signal("STOP");
        std::thread::sleep(least + Duration::from_millis(self.random.below(1_500)));
        self.fleet[at].signal("CONT");
        self.tally.pauses += 1;
        true
    }

    fn terminate(&mut self) {
        let Some(at) = self.any() else { return };
        let mut worker = self.fleet.remove(at);
        worker.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = worker.ended() {
                break status;
            }
            assert!(Instant::now() < deadline, "no end after SIGTERM: {}", worker.last_words());
            std::thread::sleep(TICK);
        };
        // Before it heeds the signal, or where nothing heeds it, it just ends.
        let plain = status.code().is_none() || !worker.stays();
        let fine = plain || worker.may_fail() || status.success();
        assert!(fine, "{status}: {}", worker.last_words());
        self.tally.terminations += 1;
        self.gone(&worker, status.success() && !worker.stays());
    }

    /// The first time nothing is left, until a worker has met that; later it depends.
    fn fill_disk(&mut self) {
        let is_first = self.tally.full_disks == 0;
        let left = [0, 16, 64, 256, 1_024][self.random.below(5) as usize];
        let least = Duration::from_millis(300 + self.random.below(1_200));
        if !self.squeeze(if is_first { 0 } else { left }) {
            return;
        }
        let (since, before) = (Instant::now(), self.tally.starved);
        let mut is_met = false;
        while since.elapsed() < least || (is_first && !is_met && since.elapsed() < MEETS) {
            self.excuse(|_| Excuse::Always);
            self.fill();
            std::thread::sleep(TICK);
            is_met |= self.tally.starved > before || self.fleet.iter().any(Worker::has_no_room);
        }
        // Layers that have stopped for want of room stay so until they are started again.
        self.kill_all();
        self.tally.full_disks += 1;
        self.tally.full_disks_met += u64::from(self.tally.starved > before);
        self.ground.make_room();
    }

    /// Leaves so many KiB on the disk. False where there is none.
    fn squeeze(&self, mut left: u32) -> bool {
        let Some(disk) = self.ground.disk() else { return false };
        // Where more came meanwhile, so much more is left.
        while !disk.squeeze(left) {
            left += 64;
            assert!(left < 16_384, "the disk does not get full");
        }
        true
    }

    /// Who is at work now may fail: something that it needs is taken from it.
    fn excuse(&mut self, of: impl Fn(&Worker) -> Excuse) {
        for worker in &mut self.fleet {
            let excuse = of(worker);
            worker.excuse(excuse);
        }
    }

    /// A server is gone for a while, or hangs.
    fn outage(&mut self, part: Part) {
        let outage = if self.random.below(3) == 0 { Outage::Hangs } else { Outage::Killed };
        // Who works waits for a server, and goes on when it is back; a start and a command may give up.
        self.excuse(|worker| if worker.stays() { Excuse::Start } else { Excuse::Always });
        self.ground.servers.take_away(part, outage);
        std::thread::sleep(Duration::from_millis(300 + self.random.below(2_500)));
        self.ground.servers.bring_back(part, outage);
        match part {
            Part::Bus => self.tally.bus_outages += 1,
            Part::Ledger => self.tally.ledger_outages += 1,
        }
    }

    /// Takes the key index away, or puts an older one in its place.
    fn rob(&mut self, older: bool) {
        // Who comes and goes may not come back while there is nothing to publish.
        let staying = self.options.staying();
        let comes_back = |slot| staying == 0 || slot < staying;
        let at = self.one_with_an_index(|slot| !older || comes_back(slot));
        let slot = self.kill(at);
        let (index, kept) = (self.index(slot), self.ground.folder().join(format!("index-{slot}")));
        if older && !kept.exists() {
            // It is to become older than what the next one in its place goes on to.
            copy(&index, &kept);
            self.one_with_an_index(|of| of == slot);
            self.work(AGES);
            let at = self.one_with_an_index(|of| of == slot);
            self.kill(at);
        }
        let fresh = self.ground.folder().join("index-now");
        copy(&index, &fresh);
        remove(&index);
        if older {
            copy(&kept, &index);
        }
        remove(&kept);
        std::fs::rename(&fresh, &kept).unwrap();
        self.tally.indexes += 1;
        self.tally.older_indexes += u64::from(older);
    }

    /// Waits until there is a worker with a key index in a place that fits.
    fn one_with_an_index(&mut self, fits: impl Fn(u64) -> bool) -> usize {
        let deadline = Instant::now() + HANGS;
        loop {
            self.fill();
            let has_one = |at: &usize| {
                let slot = self.fleet[*at].slot;
                fits(slot) && self.index(slot).exists()
            };
            let all: Vec<usize> = (0..self.fleet.len()).filter(has_one).collect();
            if !all.is_empty() {
                return all[self.random.below(all.len() as u64) as usize];
            }
            assert!(Instant::now() < deadline, "no worker has a key index");
            std::thread::sleep(TICK);
        }
    }

    fn index(&self, slot: u64) -> PathBuf {
        self.ground.data_of(slot).join("index")
    }
}

fn remove(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}
