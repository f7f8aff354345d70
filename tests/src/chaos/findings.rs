//! What was found at the end, counted, with the first differences.

use serde_json::{Value, json};

use super::ground::Ground;

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
    /// Records that are not as they were told, or not in the order in which they were.
    pub altered: u64,
    /// Versions that only silver or only the model has.
    pub wrong: u64,
    /// The first differences.
    pub shown: Vec<String>,
    transactional: bool,
}

impl Findings {
    /// Nothing was found yet.
    pub(crate) fn on(ground: &Ground) -> Self {
        let transactional = ground.servers.is_transactional();
        Self { transactional, ..Self::default() }
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
        report["shown"] = json!(self.shown);
    }

    /// Whether all is as it must be.
    pub(crate) fn good(&self) -> bool {
        self.lost + self.repeated + self.altered + self.wrong == 0
    }

    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
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

    /// A record stands in raw again.
    pub(crate) fn again(&mut self, text: impl FnOnce() -> String) {
        if self.transactional {
            self.repeat(text);
        } else {
            self.published_again += 1;
        }
    }

    pub(crate) fn alter(&mut self, text: impl FnOnce() -> String) {
        self.altered += 1;
        self.show(text);
    }
}
