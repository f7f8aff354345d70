//! The end of every commit: its entry becomes the next version, or another one was first.

use super::{Table, entry, log};
use crate::LakeError;
use crate::store::Created;

impl Table {
    /// That nothing is in doubt of what this handle wrote before.
    pub(super) fn check_certain(&self) -> Result<(), LakeError> {
        if self.doubtful {
            let what = format!("{}: an earlier commit broke off", self.path);
            return Err(LakeError::Unavailable { what, source: "open it anew first".into() });
        }
        Ok(())
    }

    /// That a commit may be planned on the state as it is.
    pub(super) fn check_committable(&self) -> Result<(), LakeError> {
        self.check_certain()?;
        self.check_owner()
    }

    /// Makes an entry that was planned on this state the next version, durably. After an error it is
    /// not known whether it stands there.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<Created, LakeError> {
        let version = self.state.version + 1;
        self.doubtful = true;
        let created = log::append(&self.lake, &self.path, version, bytes).await?;
        self.doubtful = false;
        if created == Created::Written {
            self.state.reached(version, entry::hash(bytes));
        }
        Ok(created)
    }
}
