//! From one incarnation of a topic to the next, where the operator accepted that one was lost.

use serde::{Deserialize, Serialize};

use crate::Epoch;
use crate::outcome::Progress;

/// That an epoch is over and another one follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The epoch that is over.
    pub from: Epoch,
    /// The offset of the last message of it that raw has; nothing more will come.
    pub end: u64,
    /// The epoch that follows, from its beginning.
    pub to: Epoch,
}

/// The epochs that the lake knows of an entity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    /// The first one of which there is anything.
    pub first: Option<Epoch>,
    /// The last one of which raw knows.
    pub last: Option<Epoch>,
    /// Which follow which, as the operator accepted.
    pub accepted: Vec<Succession>,
}

impl Epochs {
    /// Where `epoch` ends, if another one follows it.
    pub fn end_of(&self, epoch: Epoch) -> Option<u64> {
        self.after(epoch).map(|step| step.end)
    }

    /// What follows `epoch`. An epoch is only followed by a later one.
    pub fn after(&self, epoch: Epoch) -> Option<&Succession> {
        self.accepted.iter().find(|step| step.from == epoch && step.to > epoch)
    }

    /// Where somebody goes on who has everything up to `offset` of `epoch`: there, or at the
    /// beginning of the next epoch if this one is over.
    pub fn go_on(&self, mut epoch: Epoch, mut offset: u64) -> (Epoch, u64) {
        while let Some(step) = self.after(epoch).filter(|step| offset >= step.end) {
            (epoch, offset) = (step.to, 0);
        }
        (epoch, offset)
    }
}

impl Progress {
    /// The same progress, as it looks from where it goes on.
    pub fn go_on(self, epochs: &Epochs) -> Self {
        let (epoch, offset) = epochs.go_on(self.epoch, self.offset);
        if epoch == self.epoch {
            return self;
        }
        let mut former = self.former;
        former.counts += self.totals;
        former.checksum += self.checksum;
        Self { epoch, offset, totals: Default::default(), checksum: Default::default(), former }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Former;
    use crate::{Checksum, Counts};

    fn step(from: u64, end: u64, to: u64) -> Succession {
        Succession { from: Epoch(from), end, to: Epoch(to) }
    }

    #[test]
    fn who_has_all_of_an_epoch_goes_on_in_the_next_one_and_nobody_else() {
        let epochs = Epochs {
            first: Some(Epoch(1)),
            last: Some(Epoch(4)),
            accepted: vec![step(1, 5, 2), step(2, 0, 4)],
        };
        assert_eq!(epochs.go_on(Epoch(1), 4), (Epoch(1), 4));
        assert_eq!(epochs.go_on(Epoch(1), 5), (Epoch(4), 0), "nothing came of the second one");
        assert_eq!(epochs.go_on(Epoch(1), 9), (Epoch(4), 0));
        assert_eq!(epochs.go_on(Epoch(4), 7), (Epoch(4), 7));
        assert_eq!(epochs.go_on(Epoch(3), 7), (Epoch(3), 7));
    }

    #[test]
    fn steps_backwards_lead_nowhere() {
        let epochs =
            Epochs { first: None, last: None, accepted: vec![step(2, 0, 1), step(1, 0, 1)] };
        assert_eq!(epochs.go_on(Epoch(2), 3), (Epoch(2), 3));
        assert_eq!(epochs.go_on(Epoch(1), 3), (Epoch(1), 3));
    }

    #[test]
    fn the_sums_of_an_epoch_that_is_over_are_kept() {
        let counts = |records| Counts { records, inserted: records, ..Counts::default() };
        let before = Progress {
            epoch: Epoch(2),
            offset: 3,
            totals: counts(7),
            checksum: Checksum(5),
            former: Former { counts: counts(2), checksum: Checksum(u64::MAX) },
        };
        let epochs = Epochs { first: None, last: None, accepted: vec![step(2, 3, 4)] };
        let after = before.go_on(&epochs);
        assert_eq!((after.epoch, after.offset, after.totals.records), (Epoch(4), 0, 0));
        assert_eq!(after.former, Former { counts: counts(9), checksum: Checksum(4) });
        assert_eq!(before.go_on(&Epochs::default()), before);
    }
}
