//! Borders: the times before which an entity's history has been removed.
//!
//! A record that is older than the border finds nothing left that it could be put into order with,
//! and is refused. Where upkeep draws a border depends on the clock, so the table keeps from which
//! place of the topic on each one holds: made anew from raw, it refuses the same records.

use alluvium_model::Epoch;
use serde::{Deserialize, Serialize};

/// The application id of the `txn` that tells that there are borders: the newest one.
pub(super) const TXN: &str = "alluvium/border";

/// A time before which history is removed, in microseconds since 1970, for all that stands on the
/// topic behind a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Border {
    epoch: Epoch,
    after: u64,
    before: i64,
    /// Whether a record was refused for it, or no longer known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

impl Border {
    fn place(&self) -> (Epoch, u64) {
        (self.epoch, self.after)
    }
}

/// The borders of an entity, by the places behind which they hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Borders(Vec<Border>);

impl Borders {
    /// Whether history was never removed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn holding(&self, epoch: Epoch, offset: u64) -> Option<usize> {
        self.0.partition_point(|border| border.place() < (epoch, offset)).checked_sub(1)
    }

    /// The border that was drawn last.
    pub(super) fn newest(&self) -> Option<i64> {
        self.0.last().map(|border| border.before)
    }

    /// The border that holds for the message at an offset.
    pub(super) fn at(&self, epoch: Epoch, offset: u64) -> Option<i64> {
        self.holding(epoch, offset).map(|n| self.0[n].before)
    }

    /// The border of a table that stands at an offset: it holds for whatever comes next.
    pub(crate) fn of_table(&self, epoch: Epoch, offset: u64) -> Option<i64> {
        self.at(epoch, offset.saturating_add(1))
    }

    /// Notes that a record of the message at an offset was refused.
    pub(super) fn refuse(&mut self, epoch: Epoch, offset: u64) {
        if let Some(n) = self.holding(epoch, offset) {
            self.0[n].refused = true;
        }
    }

    /// Draws a border, later than the one that holds there, for all that stands behind `after`.
    /// Those that refused nothing are forgotten: the result is the same without them.
    pub(super) fn draw(&mut self, epoch: Epoch, after: u64, before: i64) {
        let place = (epoch, after);
        self.0.retain(|border| match border.place() < place {
            true => border.refused,
            false => border.before > before,
        });
        let at = self.0.partition_point(|border| border.place() <= place);
        self.0.insert(at, Border { epoch, after, before, refused: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch(7);

    #[test]
    fn a_border_holds_for_what_stands_behind_it_until_the_next_one() {
        let mut borders = Borders::default();
        borders.draw(EPOCH, 4, 100);
        borders.refuse(EPOCH, 5);
        borders.draw(EPOCH, 9, 200);
        let at = |offset| borders.at(EPOCH, offset);
        assert_eq!([at(4), at(5), at(9), at(10)], [None, Some(100), Some(100), Some(200)]);
        assert_eq!(borders.of_table(EPOCH, 4), Some(100));
        assert_eq!(borders.at(Epoch(8), 1), Some(200), "also in a later epoch");
    }

    #[test]
    fn borders_that_refused_nothing_do_not_pile_up() {
        let mut borders = Borders::default();
        for n in 1..100 {
            borders.draw(EPOCH, n * 10, n as i64);
            if n == 50 {
                borders.refuse(EPOCH, n * 10 + 1);
            }
        }
        assert_eq!(borders.0.len(), 2);
        assert_eq!(borders.at(EPOCH, 600), Some(50));
    }

    #[test]
    fn a_table_that_was_set_back_draws_its_border_before_those_to_come() {
        let mut borders = Borders::default();
        borders.draw(EPOCH, 50, 300);
        borders.draw(EPOCH, 20, 200);
        assert_eq!([borders.at(EPOCH, 21), borders.at(EPOCH, 51)], [Some(200), Some(300)]);
        borders.draw(EPOCH, 30, 400);
        assert_eq!(borders.at(EPOCH, 51), Some(400));
    }
}
