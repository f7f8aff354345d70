//! What is done to workers and to what they stand on: a deck of cards, shuffled again and again, so
//! that each run has all of it.

use crate::Random;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, then SIGCONT, then it goes on.
    Pause,
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
}

/// The cards that are left.
pub(crate) struct Deck {
    cards: Vec<Fault>,
    disk: bool,
}

impl Deck {
    /// A deck for a platform whose disk can be filled, or not.
    pub(crate) fn new(disk: bool) -> Self {
        Self { cards: Vec::new(), disk }
    }

    /// The next card.
    pub(crate) fn draw(&mut self, random: &mut Random) -> Fault {
        if self.cards.is_empty() {
            self.cards = vec![Fault::Kill; 12];
            self.cards.extend([Fault::Pause, Fault::Terminate, Fault::Maintain]);
            self.cards.extend([Fault::LostIndex, Fault::OldIndex]);
            if self.disk {
                self.cards.push(Fault::FullDisk);
            }
        }
        let at = random.below(self.cards.len() as u64) as usize;
        self.cards.swap_remove(at)
    }
}
