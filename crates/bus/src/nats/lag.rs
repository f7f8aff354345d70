//! How far the layers are with a topic, and since when something waits: for people, and for what
//! warns them. Only who reads here, how far those are, and what raw has landed decides anything.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_model::Layer;

use super::headers::Totals;
use super::records::LandedState;

/// How far one layer of this process is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LayerState {
    pub(super) committed: u64,
    pub(super) totals: Totals,
    /// When the first message after that was published.
    pub(super) next_at_us: Option<i64>,
}

/// How far the layers are.
#[derive(Default)]
pub(super) struct Lag {
    /// How far raw has landed, here or elsewhere.
    pub(super) landed: Option<LandedState>,
    /// Those that read here.
    here: [Option<LayerState>; 3],
    /// Those that no longer do, where they were then. They may stand still, or go on elsewhere.
    left: [Option<LayerState>; 3],
    /// How many subscribers each layer has here.
    readers: [u32; 3],
    /// When the first messages after some offsets were published, as far as that was asked for.
    next: BTreeMap<u64, i64>,
    /// Nothing that waits for raw was published before, where it is not known when it was.
    no_earlier: Option<i64>,
}

impl Lag {
    pub(super) fn new(landed: Option<LandedState>) -> Self {
        Self { landed, ..Self::default() }
    }

    /// One subscriber more.
    pub(super) fn read_by(&mut self, layer: Layer) {
        self.here[layer as usize].get_or_insert_default();
        self.readers[layer as usize] += 1;
    }

    /// A subscriber is gone. With the last one the layer stands where it was.
    pub(super) fn left_by(&mut self, layer: Layer) {
        let readers = &mut self.readers[layer as usize];
        *readers = readers.saturating_sub(1);
        if *readers == 0 {
            self.left[layer as usize] = self.of(layer);
            self.here[layer as usize] = None;
        }
    }

    pub(super) fn is_read_by(&self, layer: Layer) -> bool {
        self.here[layer as usize].is_some()
    }

    /// How far a layer that reads here is; the beginning if it does not, or has not committed.
    pub(super) fn here(&self, layer: Layer) -> LayerState {
        self.here[layer as usize].unwrap_or_default()
    }

    pub(super) fn committed(&mut self, layer: Layer, to: LayerState) {
        // Its last reader may be gone meanwhile.
        let Some(slot) = &mut self.here[layer as usize] else { return };
        if to.committed >= slot.committed {
            *slot = to;
        }
    }

    /// How far a layer is that reads here, or was when it did, as far as is known.
    pub(super) fn of(&self, layer: Layer) -> Option<LayerState> {
        let (here, left) = (self.here[layer as usize], self.left[layer as usize]);
        // Who has come back tells with its first commit how far it is.
        let mut of = here.filter(|here| here.committed > 0).or(left).or(here)?;
        let landed = self.landed.filter(|_| layer == Layer::Raw).and_then(|landed| landed.known());
        if let Some((committed, totals)) = landed.filter(|(offset, _)| *offset > of.committed) {
            of = LayerState { committed, totals, next_at_us: None };
        }
        of.next_at_us = of.next_at_us.or_else(|| self.next_after(of.committed));
        Some(of)
    }

    /// Up to where raw has landed.
    pub(super) fn landed_to(&self) -> u64 {
        self.landed.map_or(0, |landed| landed.offset)
    }

    /// Raw has landed more of a topic that ends at `end`.
    pub(super) fn raw_landed(&mut self, record: LandedState, end: u64) {
        // What still waits came behind what waited until now.
        self.no_earlier = self.unlanded_since_us().filter(|_| record.offset < end);
        self.landed = Some(record);
    }

    /// When the first message that raw has not landed was published; or some time before, until that
    /// is asked. `None` if nothing is known of it.
    pub(super) fn unlanded_since_us(&self) -> Option<i64> {
        self.next_after(self.landed_to()).or(self.no_earlier)
    }

    /// Whether something waits for a layer that reads here, in a topic that ends at `end`.
    pub(super) fn waits_here(&self, end: u64) -> bool {
        self.here.iter().flatten().any(|here| here.committed < end)
    }

    /// The same of all layers that ever read here.
    pub(super) fn waits(&self, end: u64) -> bool {
        self.behind(end).next().is_some()
    }

    /// The offsets of which it is to be asked when the first message after them was published:
    /// where layers that read here are, or `all` that ever did; and what raw has landed, if what
    /// waits for it may be lost.
    pub(super) fn unasked(&mut self, end: u64, may_lose: bool, all: bool) -> Vec<u64> {
        let landed = may_lose.then(|| self.landed_to());
        let wanted: BTreeSet<u64> = self.behind(end).chain(landed).collect();
        self.next.retain(|after, _| wanted.contains(after));
        let is_due = |after: &u64| all || landed == Some(*after) || self.is_here(*after);
        let unknown = wanted.into_iter().filter(|after| self.next_after(*after).is_none());
        unknown.filter(is_due).collect()
    }

    /// The first message after `after` was published then; `None` if there is none, in a topic that
    /// was published to last at `last_us`.
    pub(super) fn asked(&mut self, after: u64, published_at_us: Option<i64>, last_us: i64) {
        let landed = self.landed_to();
        match published_at_us {
            Some(at) => {
                self.next.insert(after, at);
                if after <= landed
                    && let Some(bound) = &mut self.no_earlier
                {
                    *bound = (*bound).max(at);
                }
            }
            // What raw has not landed is lost, the last one, too.
            None if after == landed => self.no_earlier = Some(last_us),
            None => {}
        }
    }

    /// Where the layers are for which something waits.
    fn behind(&self, end: u64) -> impl Iterator<Item = u64> {
        let all = Layer::ALL.into_iter().filter_map(move |layer| self.of(layer));
        all.map(|of| of.committed).filter(move |committed| *committed < end)
    }

    fn is_here(&self, offset: u64) -> bool {
        self.here.iter().flatten().any(|here| here.committed == offset)
    }

    fn next_after(&self, offset: u64) -> Option<i64> {
        let layers = self.here.iter().chain(&self.left).flatten();
        let mut told = layers.filter(|of| of.committed == offset).filter_map(|of| of.next_at_us);
        told.next().or_else(|| self.next.get(&offset).copied())
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::Epoch;

    use super::*;

    fn at(committed: u64, next_at_us: Option<i64>) -> LayerState {
        let totals = Totals { records: committed, bytes: 10 * committed };
        LayerState { committed, totals, next_at_us }
    }

    fn landed(offset: u64) -> LandedState {
        LandedState::new(Epoch(1), offset, at(offset, None).totals, 0)
    }

    #[test]
    fn a_layer_that_left_is_told_where_it_was_and_decides_nothing() {
        let mut lag = Lag::default();
        assert_eq!(lag.of(Layer::Silver), None);
        lag.read_by(Layer::Silver);
        lag.read_by(Layer::Silver);
        lag.committed(Layer::Silver, at(5, Some(50)));
        lag.left_by(Layer::Silver);
        assert!(lag.is_read_by(Layer::Silver), "one reader is still here");
        lag.left_by(Layer::Silver);
        lag.committed(Layer::Silver, at(6, None));
        assert!(!lag.is_read_by(Layer::Silver) && !lag.waits_here(9));
        assert_eq!(lag.here(Layer::Silver), LayerState::default());
        assert_eq!(lag.of(Layer::Silver), Some(at(5, Some(50))));
        assert_eq!((lag.waits(9), lag.waits(5)), (true, false));
        lag.read_by(Layer::Silver);
        assert_eq!(lag.of(Layer::Silver), Some(at(5, Some(50))), "it has not told more");
        lag.committed(Layer::Silver, at(5, None));
        assert_eq!(lag.of(Layer::Silver), Some(at(5, Some(50))));
        lag.committed(Layer::Silver, at(7, None));
        assert_eq!(lag.of(Layer::Silver), Some(at(7, None)));
    }

    #[test]
    fn raw_is_where_the_bus_tells_that_it_has_landed() {
        let mut lag = Lag::default();
        lag.raw_landed(landed(5), 9);
        assert_eq!(lag.of(Layer::Raw), None, "it never read here");
        lag.read_by(Layer::Raw);
        lag.left_by(Layer::Raw);
        assert_eq!(lag.of(Layer::Raw), Some(at(5, None)));
        lag.raw_landed(landed(8), 9);
        assert_eq!(lag.of(Layer::Raw), Some(at(8, None)));
        lag.raw_landed(LandedState::new(Epoch(1), 9, Totals::default(), 0), 9);
        assert_eq!(lag.of(Layer::Raw), Some(at(5, None)), "nobody knows the totals there");
    }

    #[test]
    fn it_is_asked_once_since_when_each_waits() {
        let (mut lag, none) = (Lag::default(), Vec::<u64>::new());
        assert_eq!(lag.unasked(9, false, true), none);
        assert_eq!(lag.unasked(9, true, false), [0], "what raw has not landed");
        for (layer, to) in [(Layer::Raw, 5), (Layer::Bronze, 5), (Layer::Silver, 3)] {
            lag.read_by(layer);
            lag.committed(layer, at(to, None));
        }
        lag.left_by(Layer::Raw);
        lag.left_by(Layer::Silver);
        lag.raw_landed(landed(5), 9);
        assert_eq!(lag.unasked(9, true, false), [5]);
        assert_eq!(lag.unasked(9, true, true), [3, 5]);
        lag.asked(3, Some(30), 90);
        lag.asked(5, None, 90);
        assert_eq!(lag.unasked(9, true, true), [5], "there was nothing; now there may be");
        lag.asked(5, Some(50), 90);
        assert_eq!(lag.unasked(9, true, true), none);
        let since = Layer::ALL.map(|layer| lag.of(layer).and_then(|of| of.next_at_us));
        assert_eq!(since, [Some(50), Some(50), Some(30)]);
        lag.raw_landed(landed(7), 9);
        assert_eq!(lag.unasked(9, false, false), none, "raw may go on elsewhere");
        assert_eq!(lag.unasked(9, true, false), [7]);
        assert_eq!(lag.unasked(5, false, true), none, "only silver waits");
        assert_eq!(lag.unasked(9, false, true), [5, 7], "what was not wanted is forgotten");
    }

    #[test]
    fn what_waits_for_raw_is_as_old_as_its_first_message() {
        let mut lag = Lag::default();
        assert_eq!(lag.unlanded_since_us(), None, "nobody has asked");
        lag.asked(0, Some(10), 90);
        assert_eq!(lag.unlanded_since_us(), Some(10));
        lag.raw_landed(landed(3), 9);
        assert_eq!(lag.unlanded_since_us(), Some(10), "at least as young, until it is asked");
        // Of a time at which raw had landed less.
        lag.asked(2, Some(20), 90);
        assert_eq!(lag.unlanded_since_us(), Some(20));
        lag.asked(3, Some(30), 90);
        assert_eq!(lag.unlanded_since_us(), Some(30));
        lag.read_by(Layer::Raw);
        lag.raw_landed(landed(4), 9);
        lag.committed(Layer::Raw, at(4, Some(40)));
        assert_eq!(lag.unlanded_since_us(), Some(40), "raw knows itself what comes next");
        lag.left_by(Layer::Raw);
        assert_eq!(lag.unlanded_since_us(), Some(40));
        lag.raw_landed(landed(9), 9);
        assert_eq!(lag.unlanded_since_us(), None, "nothing waits");
        lag.asked(9, None, 90);
        assert_eq!(lag.unlanded_since_us(), Some(90), "what came since is lost by now");
    }
}
