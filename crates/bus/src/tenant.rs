//! Whose bus it is.

use serde::{Deserialize, Serialize};

/// Those who use a shared bus, by the one ledger that they share. They say again and again that they
/// are there, so that others see whether they still are, whatever the clocks show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The id of their ledger.
    pub ledger: String,
    /// Grows each time that they say so.
    pub beat: u64,
}
