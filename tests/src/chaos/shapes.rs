//! The entities that are told of, and how each of them gets in.

use serde_json::{Value, json};

use super::model::Rules;

/// An API gives so many records per page.
pub(crate) const FEED_PAGE: u64 = 60;
/// So many rows of a table are read at once.
const TABLE_PAGE: u64 = 40;

/// How an entity's records get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Files are published, with deletes.
    Published,
    /// An API is polled for what is new: it tells of no deletes.
    Polled,
    /// A table is read whole: what is gone was deleted.
    Whole,
}

/// An entity of the stream.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its system.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How its records get in.
    pub way: Way,
    /// The columns of its key.
    pub keys: &'static [&'static str],
    /// So many keys there are.
    pub rows: u64,
    /// Of 100 records of all streams, about so many are its own.
    pub share: u64,
    /// So many records come at once.
    pub at_once: u64,
    /// So many characters stand in each note.
    pub note: usize,
    /// Whether a delete opens a row.
    pub tombstones: bool,
}

/// All entities.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        system: "push",
        name: "customers",
        way: Way::Published,
        keys: &["id"],
        rows: 300,
        share: 15,
        at_once: 300,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "push",
        name: "payments",
        way: Way::Published,
        keys: &["region", "id"],
        rows: 2_000,
        share: 15,
        at_once: 300,
        note: 20,
        tombstones: true,
    },
    // Its files are published in several pages.
    Shape {
        system: "push",
        name: "visits",
        way: Way::Published,
        keys: &["id"],
        rows: 20_000,
        share: 40,
        at_once: 12_000,
        note: 500,
        tombstones: false,
    },
    Shape {
        system: "feed",
        name: "orders",
        way: Way::Polled,
        keys: &["id"],
        rows: 1_000,
        share: 20,
        at_once: 150,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "feed",
        name: "parts",
        way: Way::Polled,
        keys: &["region", "id"],
        rows: 100,
        share: 10,
        at_once: 75,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "shop",
        name: "stock",
        way: Way::Whole,
        keys: &["id"],
        rows: 150,
        share: 0,
        at_once: 6,
        note: 20,
        tombstones: false,
    },
];

const COLUMNS: [(&str, &str); 7] = [
    ("id", "long"),
    ("region", "string"),
    ("city", "string"),
    ("amount", "double"),
    ("status", "string"),
    ("note", "string"),
    ("seen", "long"),
];

impl Shape {
    /// `system.name`.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.system, self.name)
    }

    /// So many records a page of it has at most.
    pub(crate) fn page(&self) -> u64 {
        match self.way {
            // A file may be one page, with what is repeated in it and what comes late.
            Way::Published => 2 * self.at_once,
            Way::Polled => FEED_PAGE,
            // The end of a snapshot stands in its last page.
            Way::Whole => TABLE_PAGE + 1,
        }
    }

    /// The number of a record among all that were told; none where a table is read whole.
    pub(crate) fn number(&self, record: &Value) -> Option<u64> {
        match self.way {
            Way::Published => record["n"].as_u64(),
            Way::Polled => record["after"]["feed"].as_u64(),
            Way::Whole => None,
        }
    }

    /// What the model has to know.
    pub(crate) fn rules(&self) -> Rules {
        let mut columns: Vec<String> = COLUMNS.map(|(name, _)| name.to_owned()).into();
        let mut latest = Vec::new();
        if self.way != Way::Whole {
            latest.push("seen".to_owned());
        }
        if self.way == Way::Polled {
            columns.push("seq".to_owned());
            latest.push("seq".to_owned());
        }
        let keys = self.keys.iter().map(|name| (*name).to_owned()).collect();
        Rules { keys, columns, latest, tombstones: self.tombstones }
    }

    /// The entity for `entities.json`.
    pub(crate) fn metadata(&self) -> Value {
        let column = |name: &str, kind: &str, history: &str| {
            let nullable = !self.keys.contains(&name);
            json!({"name": name, "type": kind, "nullable": nullable, "history": history})
        };
        let history = |name: &str| if name == "seen" { "latest" } else { "track" };
        let mut columns: Vec<Value> =
            COLUMNS.iter().map(|(name, kind)| column(name, kind, history(name))).collect();
        let mut entity = json!({"system": self.system, "name": self.name, "keys": self.keys});
        let more = match self.way {
            Way::Published => json!({
                "load": "delta", "source": {}, "sequence_by": [{"carried": "long"}],
                "deletes": if self.tombstones { "tombstone" } else { "close" }
            }),
            Way::Polled => {
                columns.push(column("seq", "long", "latest"));
                columns.push(column("feed", "long", "ignore"));
                json!({
                    "load": "delta", "sequence_by": ["seq"], "source": {
                        "path": format!("/{}", self.name), "records": "$.items[*]",
                        "pagination": {"type": "cursor", "param": "token", "path": "$.next"},
                        "incremental": {"column": "feed", "param": "since", "format": "raw"}
                    }
                })
            }
            Way::Whole => {
                // The table tells its columns.
                columns.clear();
                json!({"load": "full", "source": {"table": self.name, "page_rows": TABLE_PAGE}})
            }
        };
        if !columns.is_empty() {
            entity["columns"] = columns.into();
        }
        entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entity
    }
}
