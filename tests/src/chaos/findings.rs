//! What was found at the end, counted, with the first differences.

use serde_json::{Value, json};

use super::shapes::Shape;

/// So many differences are shown.
const SHOWN: usize = 12;

/// A record that is one too many: its place in raw's order, and what is to be said of it.
pub(crate) type Spare = (usize, String);

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

    /// Records of an entity stand in raw again.
    pub(crate) fn again(&mut self, shape: &Shape, records: Vec<Spare>) {
        if self.broken_off.is_some() {
            self.count_pages(shape, records.iter().map(|(at, _)| *at).collect(), 0);
            return;
        }
        for (_, text) in records {
            self.repeat(|| text);
        }
    }

    /// What a snapshot has too much of: records that stand there again, rows that stand behind its
    /// end, and so many `more` rows than its end tells, those behind it among them. A page that was
    /// broken off and read anew leaves such rows where the bus cannot take it back: the table was
    /// another one by then.
    pub(crate) fn surplus(
        &mut self,
        shape: &Shape,
        again: Vec<Spare>,
        late: Vec<Spare>,
        more: u64,
        text: impl Fn() -> String,
    ) {
        if self.broken_off.is_some() {
            let mut places: Vec<usize> = again.iter().chain(&late).map(|(at, _)| *at).collect();
            places.sort_unstable();
            self.count_pages(shape, places, more.saturating_sub(late.len() as u64));
            return;
        }
        self.again(shape, again);
        for (_, text) in late {
            self.alter(|| text);
        }
        for _ in 0..more {
            self.alter(&text);
        }
    }

    /// Counts pages that stand in raw again. Of so many `more` records nobody knows which of those in
    /// raw they are: as many as there is room for may be of the pages that are known.
    fn count_pages(&mut self, shape: &Shape, places: Vec<usize>, more: u64) {
        let records = places.len() as u64 + more;
        self.published_again += records;
        self.pages_again += pages(places, shape.page()).max(records.div_ceil(shape.page()));
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
    use super::super::shapes::{SHAPES, Way};
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
        let often = found(Some(1), &[3, 700]);
        assert!(!often.good() && often.published_again == 2, "{often:?}");
        assert!(!found(Some(0), &[3]).good());
    }

    #[test]
    fn rows_that_a_snapshot_has_too_many_are_of_no_more_pages_than_were_broken_off() {
        let shape = SHAPES.iter().find(|shape| shape.way == Way::Whole).unwrap();
        let page = shape.page();
        let pages = |again: &[usize], late: &[usize], more| {
            let spare = |places: &[usize]| places.iter().map(|at| (*at, String::new())).collect();
            let mut found = Findings::with(Some(2));
            found.surplus(shape, spare(again), spare(late), more, String::new);
            assert_eq!(found.good(), found.pages_again <= 2, "{found:?}");
            (found.published_again, found.pages_again)
        };
        assert_eq!(pages(&[], &[], 0), (0, 0));
        assert_eq!(pages(&[4], &[5], 1), (2, 1), "what is late is counted once");
        assert_eq!(pages(&[4], &[], page - 1), (page, 1), "all of one page");
        assert_eq!(pages(&[4], &[], page), (page + 1, 2));
        assert_eq!(pages(&[], &[], 3 * page), (3 * page, 3), "more than were broken off");
        assert_eq!(pages(&[500], &[4, 900], 2), (3, 3), "wherever they stand");
    }

    #[test]
    fn whatever_was_found_is_not_good() {
        let finds: [fn(&mut Findings); 5] = [
            |found| found.lose(String::new),
            |found| found.repeat(String::new),
            |found| found.alter(String::new),
            |found| found.surplus(&SHAPES[0], Vec::new(), Vec::new(), 1, String::new),
            |found| found.differ(String::new),
        ];
        for find in finds {
            let mut found = Findings::with(None);
            find(&mut found);
            assert!(!found.good(), "{found:?}");
        }
    }
}
