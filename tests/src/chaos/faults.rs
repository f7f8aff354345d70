//! What is done to workers and to what they stand on: a deck of cards, shuffled again and again. First
//! comes one card of each kind, so that each run has all of it, however short it is.

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
    /// Nobody else's, so that the cards follow from the seed alone.
    random: Random,
    all: Vec<Fault>,
    left: Vec<Fault>,
    /// So many kinds have not come yet.
    missing: usize,
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
        let mut left = all.clone();
        left.dedup();
        let missing = left.len();
        Self { random: Random::new(options.seed ^ 0xdec4), all, left, missing }
    }

    /// Whether there is a kind that has not come yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.missing > 0
    }

    /// The next card.
    pub(crate) fn draw(&mut self) -> Fault {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        self.missing = self.missing.saturating_sub(1);
        let at = self.random.below(self.left.len() as u64) as usize;
        self.left.swap_remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Bus, Ledger};
    use super::*;

    fn deck(seed: u64) -> Deck {
        let options = Options {
            bus: Bus::Nats,
            ledger: Ledger::Postgres,
            brokers: None,
            workers: 3,
            kills: 200,
            seed,
            seconds: 600,
            least: 200,
            records: 60_000,
            memory: 1_000,
            quiet: true,
        };
        Deck::new(&options, true, &[Part::Bus, Part::Ledger])
    }

    #[test]
    fn the_cards_follow_from_the_seed_and_each_kind_comes_once_before_any_comes_again() {
        let draw = |seed| {
            let mut deck = deck(seed);
            (0..60).map(|_| deck.draw()).collect::<Vec<Fault>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut deck = deck(7);
        let mut first = Vec::new();
        while deck.is_fresh() {
            let fault = deck.draw();
            assert!(!first.contains(&fault), "{fault:?} comes again among {first:?}");
            first.push(fault);
        }
        assert!(draw(7).iter().all(|fault| first.contains(fault)), "{first:?}");
    }
}
