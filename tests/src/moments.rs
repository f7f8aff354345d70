//! Kills at moments that nobody chose. How fast this machine is now shows with each of them.

use std::ops::Range;
use std::time::Duration;

use crate::{Random, Running};

/// How often is tried what must come again and again.
const ATTEMPTS: u32 = 100;

/// What a kill met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// A process that had not begun what it is to be killed at.
    Start,
    /// One that was at it.
    Work,
    /// One that had ended by itself, and well.
    End,
}

/// When a process is killed, in milliseconds after its start.
pub struct Moments {
    random: Random,
    between: Range<u64>,
}

impl Moments {
    /// Moments between these, until kills show that they come too early or too late.
    pub fn new(seed: u64, between: Range<u64>) -> Self {
        Self { random: Random::new(seed), between }
    }

    /// Waits for the next moment, kills, and tells what that met. `begun` looks afterwards whether
    /// this process had begun: one that is alive may only be starting.
    #[track_caller]
    fn kill(&mut self, mut running: Running, begun: impl FnOnce() -> bool) -> Met {
        let Range { start, end } = self.between;
        // The moment is what is tested; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(start + self.random.below(end - start)));
        let ended = running.end();
        if let Some(status) = ended {
            assert!(status.success(), "it ended by itself: {status}\n{}", running.said());
        }
        let (begun, quarter) = (begun(), (end - start) / 4);
        if ended.is_some() {
            self.between = start / 2..end - quarter;
            Met::End
        } else if begun {
            Met::Work
        } else {
            self.between.end += quarter + 1;
            Met::Start
        }
    }

    /// Starts a process again and again, until so many were killed at work. After each kill,
    /// `begun` looks whether this process had begun.
    #[track_caller]
    pub fn kill_each(
        &mut self,
        kills: u32,
        mut start: impl FnMut() -> Running,
        mut begun: impl FnMut() -> bool,
    ) {
        let mut killed = 0;
        for _ in 0..ATTEMPTS {
            killed += u32::from(self.kill(start(), &mut begun) == Met::Work);
            if killed == kills {
                return;
            }
        }
        panic!("only {killed} of {ATTEMPTS} kills met a process at work");
    }
}
