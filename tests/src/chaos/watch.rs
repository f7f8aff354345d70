//! Looks how it goes, and stops where something does not go on.

use std::time::{Duration, Instant};

use super::drive::{ANSWERS, Chaos, HANGS};
use super::fleet::Worker;
use super::landed::{LAYERS, Landed};
use super::shapes::SHAPES;

/// A layer that has landed nothing for so long is given more time between the faults.
const STARVES: Duration = Duration::from_secs(20);

impl Chaos {
    /// Says how it goes, now and then, and keeps pace with the machine.
    pub(super) fn watch(&mut self) {
        if !self.tally.is_due() {
            return;
        }
        let Some((landed, longest)) = self.look() else { return };
        let since = self.tally.land(landed.sum("silver"));
        // How fast this machine is now shows in what comes through between the kills. Of several
        // workers only one is hit at a time.
        let slow = since > Duration::from_secs(1) || longest > STARVES;
        let most = if self.options.bus.is_shared() { 2_000 } else { 6_000 };
        self.pace = if slow { self.pace * 5 / 4 } else { self.pace * 9 / 10 }.clamp(200, most);
        self.say(&format!(
            "{:>4} kills of {}  {:>8} told  {:>8} in raw  {:>8} in silver  {:>2} files wait  \
             {:>4} MiB  pace {} ms",
            self.tally.kills,
            self.options.kills,
            self.sources.count(),
            landed.sum("raw"),
            landed.sum("silver"),
            self.sources.queue.len(),
            self.tally.memory / 1024,
            self.pace
        ));
    }

    /// What has landed, and for how long a layer has landed nothing that should have: the longest
    /// time. Nothing where the ledger does not tell just now.
    pub(super) fn look(&mut self) -> Option<(Landed, Duration)> {
        let answer = self.ground.run(&["query", Landed::SQL, "-q", "-o", "ndjson"], ANSWERS);
        let now = Instant::now();
        if answer.code != 0 {
            let silent = now.duration_since(self.heard);
            assert!(silent < HANGS, "the ledger tells nothing for {silent:?}: {}", answer.said);
            return None;
        }
        self.heard = now;
        let landed = Landed::of(&answer.rows);
        let longest = self.longest_wait(&landed, now);
        Some((landed, longest))
    }

    /// For how long a layer has landed nothing though something waits for it. It must not be too long.
    fn longest_wait(&mut self, landed: &Landed, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        for shape in SHAPES {
            let entity = shape.id();
            for layer in LAYERS {
                let wanted = match layer {
                    "raw" => self.sources.due(shape),
                    // The others should have what raw has.
                    _ => landed.get(&entity, "raw"),
                };
                let has = landed.get(&entity, layer);
                let since = self.waits.note((entity.as_str(), layer), has, wanted, now);
                assert!(
                    since < HANGS,
                    "{layer} of {entity} has {has} records of {wanted}, and landed nothing for \
                     {since:?}\n{}",
                    self.last_words()
                );
                longest = longest.max(since);
            }
        }
        longest
    }

    /// What those said last who are at work.
    pub(super) fn last_words(&self) -> String {
        self.fleet.iter().map(Worker::last_words).collect::<Vec<_>>().join("\n")
    }
}
