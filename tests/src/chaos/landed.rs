//! How far each layer of each entity is, and how long it has landed nothing though something waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The layers, in the order in which what is told shows in them.
pub(crate) const LAYERS: [&str; 3] = ["raw", "bronze", "silver"];

/// How many records each layer of each entity has landed, as the ledger tells.
#[derive(Debug, Default)]
pub(crate) struct Landed(BTreeMap<(String, String), u64>);

impl Landed {
    /// What asks the ledger for it.
    pub(crate) const SQL: &'static str = "SELECT system, entity, layer, sum(records) AS records \
         FROM ledger.layer_total GROUP BY system, entity, layer";

    /// As the ledger's rows tell it, a line each.
    pub(crate) fn of(rows: &str) -> Self {
        let read = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let entity = format!("{}.{}", text("system"), text("entity"));
            ((entity, text("layer")), row["records"].as_u64().unwrap())
        };
        Self(rows.lines().map(read).collect())
    }

    /// Of one entity.
    pub(crate) fn get(&self, entity: &str, layer: &str) -> u64 {
        self.0.get(&(entity.to_owned(), layer.to_owned())).copied().unwrap_or_default()
    }

    /// Of all entities.
    pub(crate) fn sum(&self, layer: &str) -> u64 {
        self.0.iter().filter(|((_, of), _)| of == layer).map(|(_, records)| records).sum()
    }

    /// Whether all layers of an entity have so many.
    pub(crate) fn has(&self, entity: &str, records: u64) -> bool {
        LAYERS.iter().all(|layer| self.get(entity, layer) >= records)
    }
}

/// Since when each layer of each entity has landed nothing of what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Waits(BTreeMap<(String, &'static str), (u64, Instant)>);

impl Waits {
    /// Takes down how far a layer is now, and how far it should come. Returns for how long it has come
    /// no farther.
    pub(crate) fn note(
        &mut self,
        (entity, layer): (&str, &'static str),
        landed: u64,
        wanted: u64,
        now: Instant,
    ) -> Duration {
        let (most, since) = self.0.entry((entity.to_owned(), layer)).or_insert((landed, now));
        if landed > *most || landed >= wanted {
            (*most, *since) = (landed.max(*most), now);
        }
        now.duration_since(*since)
    }

    /// All clocks stood still for so long.
    pub(crate) fn stood_still(&mut self, time: Duration) {
        for (_, since) in self.0.values_mut() {
            *since += time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_layer_goes_on_while_something_waits_for_it_and_it_lands_nothing() {
        let (mut waits, began) = (Waits::default(), Instant::now());
        let mut note = |entity, landed, wanted, second| {
            let now = began + Duration::from_secs(second);
            waits.note((entity, "silver"), landed, wanted, now).as_secs()
        };
        assert_eq!(note("shop.orders", 5, 9, 0), 0);
        assert_eq!(note("shop.parts", 5, 5, 0), 0);
        assert_eq!(note("shop.orders", 5, 9, 3), 3);
        assert_eq!(note("shop.parts", 5, 5, 3), 0, "nothing waits");
        assert_eq!(note("shop.parts", 7, 8, 6), 0, "another one goes on");
        assert_eq!(note("shop.orders", 4, 9, 9), 9, "fewer is no progress");
        assert_eq!(note("shop.orders", 5, 9, 12), 12);
        assert_eq!(note("shop.orders", 6, 9, 15), 0);
        assert_eq!(note("shop.orders", 6, 9, 16), 1);
    }

    #[test]
    fn time_in_which_the_clocks_stood_still_is_not_waited() {
        let (mut waits, began) = (Waits::default(), Instant::now());
        let note = |waits: &mut Waits, second| {
            let now = began + Duration::from_secs(second);
            waits.note(("shop.orders", "raw"), 5, 9, now).as_secs()
        };
        assert_eq!(note(&mut waits, 0), 0);
        assert_eq!(note(&mut waits, 4), 4);
        waits.stood_still(Duration::from_secs(10));
        assert_eq!(note(&mut waits, 15), 5);
    }

    #[test]
    fn what_the_ledger_tells_is_known_by_entity_and_layer() {
        let rows = r#"{"system":"shop","entity":"orders","layer":"raw","records":7}
            {"system":"shop","entity":"orders","layer":"silver","records":5}
            {"system":"shop","entity":"parts","layer":"silver","records":2}"#;
        let landed = Landed::of(rows);
        assert_eq!((landed.get("shop.orders", "raw"), landed.sum("silver")), (7, 7));
        assert!(!landed.has("shop.orders", 5), "bronze has nothing yet");
        assert!(landed.has("shop.orders", 0));
    }
}
