//! Why the ledger did not do as asked, grouped by what mends it.

use alluvium_model::Remedy;

/// Why the ledger did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It could not be reached, or somebody else writes for too long.
    #[error("the ledger is not available while it should {doing}")]
    Unavailable {
        /// What was to be done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// No room is left.
    #[error("the ledger has no room left to {doing}")]
    Full {
        /// What was to be done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The file cannot be written, or the server follows another one.
    #[error("the ledger cannot be written: it was to {doing}")]
    ReadOnly {
        /// What was to be done.
        doing: &'static str,
    },
    /// The server does not let us in, or not do it.
    #[error("the ledger's server refuses to {doing}")]
    Refused {
        /// What was to be done.
        doing: &'static str,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
    /// No server can be found at its address. The address itself is not told.
    #[error("the ledger's address cannot be used: {0}")]
    Address(String),
    /// It was written by a newer release, or by somebody else.
    #[error("the ledger is not of this release: {0}")]
    Foreign(String),
    /// What stands in it cannot be read.
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// A batch lies across what was already counted.
    #[error("{entity} in {layer}: batch {span} lies across offset {at}, up to which was counted")]
    Overlap {
        /// The layer.
        layer: alluvium_model::Layer,
        /// The entity.
        entity: alluvium_model::EntityId,
        /// The batch.
        span: alluvium_model::Span,
        /// Up to where the ledger counted.
        at: u64,
    },
    /// The layer was granted to somebody else since: what the caller knows of it may be old.
    #[error("{layer} of {entity} has another owner: the ledger was not altered")]
    Fenced {
        /// The layer.
        layer: alluvium_model::Layer,
        /// The entity.
        entity: alluvium_model::EntityId,
    },
    /// A defect of ours.
    #[error("defect: the ledger could not {doing}")]
    Bug {
        /// What was to be done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
}

impl LedgerError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } | Self::Fenced { .. } => Remedy::Retry,
            Self::Full { .. } => Remedy::Operator("free disk space, then start again"),
            Self::ReadOnly { .. } => Remedy::Operator(
                "make the ledger's file and folder writable, or name the server that takes writes",
            ),
            Self::Refused { .. } => Remedy::Operator(
                "correct ledger.url and ledger.password, or what the server grants this user",
            ),
            Self::Address(_) => {
                Remedy::Operator("write ledger.url as postgres://user@host:5432/database")
            }
            Self::Foreign(_) => {
                Remedy::Operator("use the release that wrote the ledger, or a newer one")
            }
            Self::Corrupt(_) => Remedy::Operator(
                "restore the ledger, or move it away; what the lake knows is written anew",
            ),
            Self::Overlap { .. } | Self::Bug { .. } => Remedy::Bug,
        }
    }
}
