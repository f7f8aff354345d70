//! How far a run has come: what stands in the cursor of a REST entity.

use alluvium_connector::RunStart;
use alluvium_model::{Cursor, SourceError};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::mark::Mark;

/// The cursor of a REST entity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RestCursor {
    /// What the cursor was made for; with another load or column it means nothing.
    pub(crate) plan: String,
    /// When the last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<RunStart>,
    /// The highest mark that a finished run has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<Mark>,
    /// What the source gave to ask again with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validator: Option<Validator>,
    /// The run that has begun and has more pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Run>,
}

/// A run between two of its pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began.
    pub(crate) started: RunStart,
    /// The mark that it reads from, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Mark>,
    /// The highest mark that it has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<Mark>,
    /// The next page's number, from 1.
    pub(crate) page: u32,
    /// What leads to the next page.
    pub(crate) next: Option<Continuation>,
    /// Records read so far.
    pub(crate) rows: u64,
    /// The hash of the last page, to notice a source that gives the same page for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
}

/// What leads to the next page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Continuation {
    /// A page's number.
    Page(u64),
    /// A number of records to leave out.
    Offset(u64),
    /// A token.
    Token(String),
    /// An address, without our key.
    Url(String),
}

/// What a source gave to ask again with, and what for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validator {
    /// The hash of the request that it belongs to.
    pub(crate) request: String,
    /// The `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// The `Last-Modified` date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_modified: Option<String>,
}

impl RestCursor {
    /// Reads a stored cursor; one that was made for another plan counts as none.
    pub(crate) fn read(stored: Option<&Cursor>, plan: &str) -> Result<Self, SourceError> {
        let fresh = || Self { plan: plan.to_owned(), ..Self::default() };
        let Some(stored) = stored else { return Ok(fresh()) };
        let cursor = Self::deserialize(&stored.0).map_err(|_| {
            SourceError::Misconfigured("the stored cursor is not one of a REST entity".into())
        })?;
        Ok(if cursor.plan == plan { cursor } else { Self { last: cursor.last, ..fresh() } })
    }

    /// The cursor as it is stored.
    pub(crate) fn write(&self) -> Result<Cursor, SourceError> {
        serde_json::to_value(self)
            .map(Cursor)
            .map_err(|e| SourceError::BadAnswer(format!("its place cannot be stored: {e}")))
    }

    /// The cursor without the run that has begun: the next page is the first of a new run.
    pub(crate) fn without_run(mut self) -> Self {
        self.last = self.run.take().map(|run| run.started).or(self.last);
        self
    }
}

/// A hash as it stands in cursors.
pub(crate) fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}
