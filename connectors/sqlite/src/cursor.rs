//! How far a run has come: what stands in the cursor of a table.

use alluvium_connector::RunStart;
use alluvium_model::{Cursor, SourceError};
use serde::{Deserialize, Serialize};

/// A value as SQLite stores it: what it is compared as depends on its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored {
    /// An integer.
    Integer(i64),
    /// A real, as text that reads back exactly (JSON has no infinity).
    #[serde(with = "real")]
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// The cursor of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableCursor {
    /// What the cursor was made for; with another table, load or column it means nothing.
    pub(crate) plan: String,
    /// When the last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<RunStart>,
    /// The highest value of the cursor column that a finished run has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<Stored>,
    /// The run that has begun and has more pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Run>,
}

/// A run between two of its pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began.
    pub(crate) started: RunStart,
    /// Which rows it is at.
    pub(crate) phase: Phase,
    /// The value of the cursor column that it reads from, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<Stored>,
    /// The last row that it has read: what the page is ordered by. Empty at the begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<Stored>,
    /// The highest value of the cursor column that it has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<Stored>,
    /// Rows read so far.
    pub(crate) rows: u64,
}

/// Which rows a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Those whose cursor column is null, which come first.
    Nulls,
    /// All others.
    Rows,
}

impl TableCursor {
    /// Reads a stored cursor; one that was made for another plan counts as none.
    pub(crate) fn read(stored: Option<&Cursor>, plan: &str) -> Result<Self, SourceError> {
        let fresh = || Self { plan: plan.to_owned(), ..Self::default() };
        let Some(stored) = stored else { return Ok(fresh()) };
        let cursor = Self::deserialize(&stored.0).map_err(|_| {
            SourceError::Misconfigured("the stored cursor is not one of a SQLite table".into())
        })?;
        Ok(if cursor.plan == plan { cursor } else { Self { last: cursor.last, ..fresh() } })
    }

    /// The cursor as it is stored.
    pub(crate) fn write(&self) -> Result<Cursor, SourceError> {
        serde_json::to_value(self)
            .map(Cursor)
            .map_err(|e| SourceError::BadAnswer(format!("its place cannot be stored: {e}")))
    }
}

mod real {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_exactly() {
        for value in [
            Stored::Integer(i64::MIN),
            Stored::Real(0.1 + 0.2),
            Stored::Real(f64::INFINITY),
            Stored::Text("æ".into()),
            Stored::Blob(vec![0, 255]),
        ] {
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Stored>(&text).unwrap(), value, "{text}");
        }
    }
}
