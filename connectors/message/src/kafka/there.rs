//! Whether all partitions are there of which something was read.

use std::time::Duration;

use alluvium_model::SourceError;

use crate::log::Want;

/// So often it is asked for partitions that are missing, and so long after one another.
const ASKED: usize = 6;
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The partitions that there are. Any broker answers, and one that has not heard yet of partitions
/// that were added gives fewer: where one is missing it is asked again, before that is believed.
pub(super) fn until_all_are_there(
    want: &Want,
    pause: Duration,
    ask: impl Fn() -> Result<Vec<i32>, SourceError>,
) -> Result<Vec<i32>, SourceError> {
    let mut ids = ask()?;
    for _ in 1..ASKED {
        if missing(want, &ids).is_none() {
            break;
        }
        std::thread::sleep(pause);
        ids = ask()?;
    }
    Ok(ids)
}

/// A partition that is not there though something of it was read, and how far.
pub(super) fn missing(want: &Want, ids: &[i32]) -> Option<(i32, i64)> {
    let mut read = want.from.iter().flatten().map(|(id, next)| (*id, *next));
    read.find(|(id, next)| *next > 0 && !ids.contains(id))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::{OnLoss, Start};

    fn want(from: &[(i32, i64)]) -> Want {
        Want {
            entity: "shop.things".parse().unwrap(),
            topic: "things".to_owned(),
            subject: None,
            from: Some(from.iter().copied().collect()),
            last: BTreeMap::new(),
            incarnation: None,
            start: Start::Earliest,
            on_loss: OnLoss::Stop,
            messages: 1,
            bytes: 1,
            wait: Duration::ZERO,
        }
    }

    /// What is found where the brokers answer like this, one after another, and how often they are
    /// asked.
    fn found(from: &[(i32, i64)], answers: &[&[i32]]) -> (Vec<i32>, usize) {
        let asked = Cell::new(0_usize);
        let ask = || {
            let at = asked.replace(asked.get() + 1);
            Ok(answers[at % answers.len()].to_vec())
        };
        let ids = until_all_are_there(&want(from), Duration::ZERO, ask).unwrap();
        (ids, asked.get())
    }

    #[test]
    fn a_broker_that_knows_of_fewer_partitions_is_asked_again() {
        assert_eq!(found(&[(0, 5), (1, 5)], &[&[0], &[0, 1]]), (vec![0, 1], 2));
        assert_eq!(found(&[(0, 5), (1, 5)], &[&[0]]), (vec![0], ASKED));
        assert_eq!(missing(&want(&[(0, 5), (1, 7)]), &[0]), Some((1, 7)));
    }

    #[test]
    fn a_partition_of_which_nothing_was_read_is_not_missed() {
        assert_eq!(found(&[(0, 5), (1, 0)], &[&[0]]), (vec![0], 1));
    }
}
