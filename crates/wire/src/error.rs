//! What may be wrong with a message, a line, a mapping or a path.

use alluvium_model::Remedy;

/// What is wrong with a whole message, or with a page that was to become messages.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The headers name a format, or a version of it, that this release does not know.
    #[error(
        "the message is of format `{0}`, which this release does not know; it knows `envelope/1`, \
         `plain` and `map`"
    )]
    UnknownFormat(String),
    /// The headers name a kind of record that this release does not know.
    #[error("the message is of kind `{0}`, which this release does not know; it knows `control`")]
    UnknownKind(String),
    /// The mapping in the headers is missing or does not read.
    #[error("the mapping in header `alluvium-map` does not read: {0}")]
    Map(String),
    /// A record of a page is not fit to be sent: a defect of the connector that made it.
    #[error("record {index} of the page of {entity}: {reason}")]
    Record {
        /// The record's index in its page.
        index: usize,
        /// The entity whose page it is.
        entity: alluvium_model::EntityId,
        /// What is wrong with it.
        reason: String,
    },
}

impl WireError {
    /// What mends the error.
    pub fn remedy(&self) -> Remedy {
        match self {
            WireError::UnknownFormat(_) | WireError::UnknownKind(_) => Remedy::Operator(
                "the message was written by a newer release or by another program: upgrade, or \
                 have it published in a format that this release knows",
            ),
            WireError::Map(_) => Remedy::Operator(
                "publish the lines again with a mapping such as \
                 `--map op=op,sequence=seq,key=after.id,row=after`",
            ),
            WireError::Record { .. } => Remedy::Bug,
        }
    }
}

/// What is wrong with one line. The record goes to quarantine and the batch goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// A short word for the kind of reason: one of the constants of this type.
    pub code: &'static str,
    /// The reason, for people. Names members and columns, never values.
    pub reason: String,
}

impl Malformed {
    /// Not UTF-8, or not JSON.
    pub const UNPARSABLE: &'static str = "unparsable";
    /// JSON, but neither our envelope nor Debezium's.
    pub const BAD_ENVELOPE: &'static str = "bad_envelope";
    /// A control record that does not read.
    pub const BAD_CONTROL: &'static str = "bad_control";
    /// The row is missing, or no JSON object.
    pub const BAD_ROW: &'static str = "bad_row";
    /// The operation is missing or unknown.
    pub const UNKNOWN_OP: &'static str = "unknown_op";
    /// The mapping names a key that the line does not have.
    pub const MISSING_KEY: &'static str = "missing_key";
    /// The mapping names a sequence that the line does not have.
    pub const MISSING_SEQUENCE: &'static str = "missing_sequence";

    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Text that is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write a mapping like `op=op,sequence=ts+lsn,key=after.id,row=after`")]
pub struct MappingError(pub(crate) String);

/// Text that is no path to one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a path to one place: {reason}; write `after.id`, `/after/id` or `$.after.id`"
)]
pub struct PathError {
    pub(crate) text: String,
    pub(crate) reason: &'static str,
}
