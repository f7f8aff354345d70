//! What was found at the end, counted, with the first differences.

use serde_json::{Value, json};

use super::shapes::Shape;

/// So many differences are shown.
const SHOWN: usize = 12;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// So many entities were looked at to their end.
    pub entities: u64,
    /// Records in raw.
    pub records: u64,
    /// Versions in silver.
    pub versions: u64,
    /// Records that were told and are not in raw, or in raw and not in bronze.
    pub lost: u64,
    /// Records that are there more than once.
    pub repeated: u64,
    /// Records that stand in raw again because the bus cannot take back a page that was broken off.
    pub published_again: u64,
    /// So many pages they are.
    pub pages_again: u64,
    /// Records that are not as they were told, or not in the order in which they were.
    pub altered: u64,
    /// Versions that only silver or only the model has.
    pub wrong: u64,
    /// The first differences.
    pub shown: Vec<String>,
    /// So many pages were broken off at most. None where the bus takes them back.
    broken_off: Option<u64>,
}

impl Findings {
    /// Nothing was found yet, where all holds on a bus that takes back what was broken off. On one
    /// that cannot, each of so many pages may stand there again.
    pub(crate) fn with(broken_off: Option<u64>) -> Self {
        Self { broken_off, ..Self::default() }
    }

    /// Puts all of it into a report.
    pub(crate) fn tell(&self, report: &mut Value) {
        report["looked_at"] = json!(self.entities);
        report["records"] = json!(self.records);
        report["versions"] = json!(self.versions);
        report["lost"] = json!(self.lost);
        report["repeated"] = json!(self.repeated);
        report["altered"] = json!(self.altered);
        report["wrong"] = json!(self.wrong);
        report["published_again"] = json!(self.published_again);
        report["pages_again"] = json!(self.pages_again);
        report["shown"] = json!(self.shown);
    }

    /// Whether all is as it must be.
    pub(crate) fn good(&self) -> bool {
        let again = self.pages_again <= self.broken_off.unwrap_or_default();
        self.lost + self.repeated + self.altered + self.wrong == 0 && again
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        if self.shown.len() < SHOWN {
            self.shown.push(text());
        }
    }

    pub(crate) fn lose(&mut self, text: impl FnOnce() -> String) {
        self.lost += 1;
        self.show(text);
    }

    pub(crate) fn repeat(&mut self, text: impl FnOnce() -> String) {
        self.repeated += 1;
        self.show(text);
    }

    /// Records of an entity stand in raw again: which in raw's order, and what is to be said of them.
    pub(crate) fn again(&mut self, shape: &Shape, records: Vec<(usize, String)>) {
        if self.broken_off.is_some() {
            self.published_again += records.len() as u64;
            self.pages_again += pages(records.iter().map(|(at, _)| *at), shape.page());
            return;
        }
        for (_, text) in records {
            self.repeat(|| text);
        }
    }

    /// A snapshot has a row that its end does not count. A page that was broken off and read anew
    /// leaves such rows where the bus cannot take it back: the table was another one by then.
    pub(crate) fn surplus(&mut self, text: impl FnOnce() -> String) {
        match self.broken_off {
            Some(_) => self.published_again += 1,
            None => self.alter(text),
        }
    }

    /// Only one of both has a version.
    pub(crate) fn differ(&mut self, text: impl FnOnce() -> String) {
        self.wrong += 1;
        self.show(text);
    }

    pub(crate) fn alter(&mut self, text: impl FnOnce() -> String) {
        self.altered += 1;
        self.show(text);
    }
}

/// So many pages at least, of so many records at most, hold the records at these places. Of a page
/// that was read anew not each record need be one that was there before.
fn pages(places: impl IntoIterator<Item = usize>, most: u64) -> u64 {
    let (mut pages, mut end) = (0, 0);
    for at in places.into_iter().map(|at| at as u64) {
        if at >= end {
            (pages, end) = (pages + 1, at + most);
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::super::shapes::SHAPES;
    use super::*;

    #[test]
    fn records_that_stand_near_each_other_are_a_page_and_more_than_a_page_has_are_two() {
        assert_eq!(pages([], 3), 0);
        assert_eq!(pages([4, 5, 6], 3), 1);
        assert_eq!(pages([4, 6], 3), 1);
        assert_eq!(pages([0, 1, 2, 3], 3), 2);
        assert_eq!(pages([4, 7], 3), 2);
    }

    #[test]
    fn only_a_bus_that_takes_nothing_back_may_have_a_page_again_and_no_more_than_were_broken_off() {
        let found = |broken_off, places: &[usize]| {
            let mut found = Findings::with(broken_off);
            let records = places.iter().map(|at| (*at, format!("{at} is there again")));
            found.again(&SHAPES[0], records.collect());
            found
        };
        assert!(found(None, &[]).good());
        let repeated = found(None, &[3]);
        assert!(!repeated.good() && repeated.repeated == 1, "{repeated:?}");
        assert!(found(Some(1), &[3, 4]).good());
        let often = found(Some(1), &[3, 400]);
        assert!(!often.good() && often.published_again == 2, "{often:?}");
        assert!(!found(Some(0), &[3]).good());
    }

    #[test]
    fn whatever_was_found_is_not_good() {
        let finds: [fn(&mut Findings); 5] = [
            |found| found.lose(String::new),
            |found| found.repeat(String::new),
            |found| found.alter(String::new),
            |found| found.surplus(String::new),
            |found| found.differ(String::new),
        ];
        for find in finds {
            let mut found = Findings::with(None);
            find(&mut found);
            assert!(!found.good(), "{found:?}");
        }
    }
}
