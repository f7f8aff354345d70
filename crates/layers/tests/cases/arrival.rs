//! The ways in which the records of a case may come: one by one, in batches, in another order, and
//! again.

use std::collections::BTreeMap;

use super::case::{Case, Input};
use super::values;
use crate::reference::Seq;

/// How the records of a case come to the stage.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// What is published together: indexes of the case's records.
    pub(crate) pages: Vec<Vec<usize>>,
    /// What is delivered together: after which page, up to which.
    pub(crate) deliveries: Vec<(usize, usize)>,
    /// Whether the key index is deleted before each delivery.
    pub(crate) index_is_lost: bool,
    /// Whether only the key is declared, and the rows bring all other columns.
    pub(crate) is_undeclared: bool,
}

impl Arrival {
    fn of(pages: Vec<Vec<usize>>, deliveries: Vec<(usize, usize)>) -> Self {
        Self { pages, deliveries, index_is_lost: false, is_undeclared: false }
    }

    fn losing_the_index(self) -> Self {
        Self { index_is_lost: true, ..self }
    }
}

/// Each record is a batch; one with an offset that was there before is delivered again.
pub(crate) fn one_by_one(case: &Case) -> Vec<Arrival> {
    let deliveries = ranks(case).into_iter().map(|(_, rank)| (rank, rank + 1)).collect();
    vec![Arrival::of(alone(&published(case)), deliveries)]
}

/// All is one batch: of many messages, and of one.
pub(crate) fn at_once(case: &Case) -> Vec<Arrival> {
    let order = published(case);
    let all = (0, order.len());
    vec![Arrival::of(alone(&order), vec![all]), Arrival::of(vec![order], vec![(0, 1)])]
}

/// As the case says.
pub(crate) fn in_batches(case: &Case) -> Vec<Arrival> {
    let mut deliveries: Vec<(usize, usize)> = Vec::new();
    let mut last = None;
    for (batch, rank) in ranks(case) {
        match deliveries.last_mut().filter(|_| last == Some(batch)) {
            Some((after, to)) => (*after, *to) = ((*after).min(rank), (*to).max(rank + 1)),
            None => deliveries.push((rank, rank + 1)),
        }
        last = Some(batch);
    }
    vec![Arrival::of(alone(&published(case)), deliveries)]
}

/// The same, and the key index is lost on the way.
pub(crate) fn without_index(case: &Case) -> Vec<Arrival> {
    let ways = [one_by_one(case), in_batches(case)].concat();
    ways.into_iter().map(Arrival::losing_the_index).collect()
}

/// With no column declared but those of the key.
pub(crate) fn undeclared(case: &Case) -> Vec<Arrival> {
    if !case.may_be_undeclared() {
        return Vec::new();
    }
    let ways = [one_by_one(case), at_once(case), in_batches(case), without_index(case)].concat();
    ways.into_iter().map(|arrival| Arrival { is_undeclared: true, ..arrival }).collect()
}

/// In other orders and other batches. Positions follow arrival, and of upserts at one sequence the
/// later position wins: such upserts keep their order.
pub(crate) fn shuffled(case: &Case) -> Vec<Arrival> {
    let last = if case.may_be_shuffled() { 8 } else { 0 };
    let ways = (1..=last).map(|seed| {
        let mut dice = Dice::new(seed, case);
        let order = shuffle(case, published(case), &mut dice);
        let arrival = batched_anew(order, &mut dice);
        if seed % 2 == 0 { arrival.losing_the_index() } else { arrival }
    });
    ways.collect()
}

/// Every record twice: one after the other, all of them again, and anyhow.
pub(crate) fn doubled(case: &Case) -> Vec<Arrival> {
    let once = published(case);
    let pairs: Vec<usize> = once.iter().flat_map(|at| [*at, *at]).collect();
    let again = [once.clone(), once].concat();
    let mut dice = Dice::new(7, case);
    let mut ways = vec![
        Arrival::of(alone(&pairs), (0..pairs.len()).map(|page| (page, page + 1)).collect()),
        batched_anew(pairs, &mut dice),
        batched_anew(again.clone(), &mut dice),
    ];
    if case.may_be_shuffled() {
        let order = shuffle(case, again, &mut dice);
        ways.push(batched_anew(order, &mut dice).losing_the_index());
    }
    ways
}

/// The records in the order of their offsets, each once.
pub(crate) fn published(case: &Case) -> Vec<usize> {
    let by_offset = case.input.iter().enumerate().rev().map(|(at, input)| (input.off, at));
    by_offset.collect::<BTreeMap<u64, usize>>().into_values().collect()
}

/// Batch and place of each record, in the order in which the case lists them. A topic gives its
/// messages in the order of their offsets, so that one which the case lists too early waits.
fn ranks(case: &Case) -> Vec<(u64, usize)> {
    let mut listed: Vec<&Input> = case.input.iter().collect();
    let order = published(case);
    let is_in_order = order.is_sorted();
    if !is_in_order {
        listed.sort_by_key(|input| input.off);
    }
    let rank = |input: &Input| order.iter().position(|at| case.input[*at].off == input.off);
    listed.into_iter().map(|input| (input.batch, rank(input).unwrap())).collect()
}

fn alone(order: &[usize]) -> Vec<Vec<usize>> {
    order.iter().map(|at| vec![*at]).collect()
}

fn batched_anew(order: Vec<usize>, dice: &mut Dice) -> Arrival {
    let mut pages: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match pages.last_mut().filter(|_| dice.below(4) == 0) {
            Some(page) => page.push(at),
            None => pages.push(vec![at]),
        }
    }
    let mut deliveries = Vec::new();
    let mut after = 0;
    while after < pages.len() {
        let to = (after + 1 + dice.below(5)).min(pages.len());
        // Now and then what was delivered comes again.
        deliveries.push((after - dice.below(3).min(after), to));
        after = to;
    }
    Arrival::of(pages, deliveries)
}

fn shuffle(case: &Case, mut order: Vec<usize>, dice: &mut Dice) -> Vec<usize> {
    for at in (1..order.len()).rev() {
        order.swap(at, dice.below(at + 1));
    }
    for tied in ties(case) {
        let mut appeared: Vec<usize> = Vec::new();
        for at in order.iter_mut().filter(|at| tied.contains(at)) {
            let nth = appeared.iter().position(|seen| seen == at).unwrap_or_else(|| {
                appeared.push(*at);
                appeared.len() - 1
            });
            *at = tied[nth];
        }
    }
    order
}

/// The upserts that share key and sequence, in the order of their offsets.
fn ties(case: &Case) -> Vec<Vec<usize>> {
    let mut tied: BTreeMap<(String, Seq), Vec<usize>> = BTreeMap::new();
    for at in published(case) {
        let input = &case.input[at];
        if matches!(input.op.as_str(), "I" | "U" | "R" | "K") && !input.seq.is_null() {
            let key = format!("{:?}", values::row(&case.keys, &input.v));
            tied.entry((key, case.seq(&input.seq))).or_default().push(at);
        }
    }
    tied.into_values().filter(|tied| tied.len() > 1).collect()
}

/// Numbers that look random and are the same for the same seed and case.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, case: &Case) -> Self {
        let name = case.name.bytes().fold(seed, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
        Self(name.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}
