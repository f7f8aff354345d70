//! What is done to workers and to what they stand on: a deck of cards, shuffled again and again, so
//! that each run has all of it.

use super::options::Options;
use crate::Random;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGKILL for all at once, as where the power goes.
    KillAll,
    /// SIGSTOP, then SIGCONT, then it goes on.
    Pause,
    /// The same, and meanwhile its leases run out.
    Oversleep,
    /// SIGTERM, in good order.
    Terminate,
    /// The disk is full; then SIGKILL, and there is room again.
    FullDisk,
    /// SIGKILL, and the key index is gone.
    LostIndex,
    /// SIGKILL, and the key index is as it was some time ago.
    OldIndex,
    /// SIGKILL, and the next worker looks after the tables.
    Maintain,
    /// A server is gone for a while, or hangs.
    Outage(Part),
}

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The bus.
    Bus,
    /// The ledger.
    Ledger,
}

/// How a server is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// SIGKILL, and it is started again.
    Killed,
    /// SIGSTOP, and SIGCONT.
    Hangs,
}

/// The cards that are left, and all there are.
pub(crate) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    /// A deck for what there is: workers that share a bus, a disk that can be filled, servers.
    pub(crate) fn new(options: &Options, disk: bool, servers: &[Part]) -> Self {
        let mut all = vec![Fault::Kill; 12];
        all.extend([Fault::Pause, Fault::Terminate, Fault::Maintain]);
        all.extend([Fault::LostIndex, Fault::OldIndex]);
        if disk {
            all.push(Fault::FullDisk);
        }
        if options.bus.is_shared() {
            all.extend([Fault::KillAll, Fault::Oversleep]);
        }
        all.extend(servers.iter().copied().map(Fault::Outage));
        Self { all, left: Vec::new() }
    }

    /// The next card.
    pub(crate) fn draw(&mut self, random: &mut Random) -> Fault {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        let at = random.below(self.left.len() as u64) as usize;
        self.left.swap_remove(at)
    }
}
