//! Kills at moments that nobody chose. How fast this machine is now shows with each of them.

use std::ops::Range;
use std::time::Duration;

use crate::{Random, Running};

/// How often is tried what must come again and again.
const ATTEMPTS: u32 = 100;

/// When a process is killed, in milliseconds after its start.
pub struct Moments {
    random: Random,
    between: Range<u64>,
}

impl Moments {
    /// Moments between these, until kills that came too late bring them nearer.
    pub fn new(seed: u64, between: Range<u64>) -> Self {
        Self { random: Random::new(seed), between }
    }

    /// Waits for the next moment and kills; true if it met the process at work.
    pub fn kill(&mut self, running: Running) -> bool {
        let Range { start, end } = self.between;
        // The moment is what is tested; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(start + self.random.below(end - start)));
        let at_work = running.kill();
        if !at_work {
            self.between.end -= (end - start) / 4;
        }
        at_work
    }

    /// Says that the process had not begun what it is to be killed at.
    pub fn too_early(&mut self) {
        let Range { start, end } = self.between;
        self.between.end += (end - start) / 4 + 1;
    }

    /// Starts a process again and again, until so many were killed at work; looks after each.
    pub fn kill_each(
        &mut self,
        kills: u32,
        mut start: impl FnMut() -> Running,
        mut look: impl FnMut(),
    ) {
        let mut killed = 0;
        for attempt in 0.. {
            assert!(attempt < ATTEMPTS, "only {killed} of {attempt} kills met a process at work");
            killed += u32::from(self.kill(start()));
            look();
            if killed == kills {
                return;
            }
        }
    }
}
