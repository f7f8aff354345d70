//! Why an index does not follow its table.

use alluvium_lake::LakeError;
use alluvium_lake::index::IndexError;
use alluvium_model::StageError;

use super::super::index_error;
use super::super::values::lake_error;

/// Why an index does not follow its table.
pub(super) enum Halt {
    /// It does not fit the table, or what the table tells does not read: it is to be made anew.
    Unfit(String),
    /// Something is in the way that may be gone at the next attempt, or that making it anew would
    /// meet too.
    Failed(StageError),
}

impl Halt {
    pub(super) fn unfit(why: &str) -> Self {
        Self::Unfit(why.to_owned())
    }
}

impl From<LakeError> for Halt {
    fn from(error: LakeError) -> Self {
        match error {
            LakeError::Corrupt(why) | LakeError::Mismatch(why) => Self::Unfit(why),
            error => Self::Failed(lake_error(error)),
        }
    }
}

impl From<IndexError> for Halt {
    fn from(error: IndexError) -> Self {
        match error.is_damage() {
            true => Self::Unfit(alluvium_model::error::chain(&error)),
            false => Self::Failed(index_error(error)),
        }
    }
}

impl From<StageError> for Halt {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Corrupt(why) | StageError::Mismatch(why) => Self::Unfit(why),
            error => Self::Failed(error),
        }
    }
}
