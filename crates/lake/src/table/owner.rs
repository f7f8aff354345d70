//! Who may write a table: the owner whose token is the highest that its log names.
//!
//! An owner names itself in an entry of its own before it writes anything else. Whatever the one
//! before has under way was planned on an older version, so that it meets that entry and is refused;
//! and whatever that one would begin anew, it begins by reading a token higher than its own.

use alluvium_model::FencingToken;
use object_store::path::Path;

use super::entry::Draft;
use super::state::State;
use super::{Standing, Table};
use crate::store::Created;
use crate::{CommitOutcome, Lake, LakeError};

/// The application id whose number is the owner's token.
pub const OWNER: &str = "alluvium/owner";

/// That no later owner than the one who asks has written the table.
pub(super) fn admit(lake: &Lake, table: &Path, state: &State) -> Result<(), LakeError> {
    let Some(owner) = lake.owner() else { return Ok(()) };
    let (ours, named) = (number(owner.token()), state.txns.get(OWNER).copied());
    match named {
        Some(named) if named > ours => Err(LakeError::Fenced(format!(
            "{table} belongs to the lease {named}, and ours is {ours}"
        ))),
        _ => Ok(()),
    }
}

impl Table {
    /// Whether its log names whom the lake is in the hands of. Always where nobody else can write.
    pub fn is_claimed(&self) -> bool {
        let owner = self.lake.owner();
        owner.is_none_or(|owner| self.txn(OWNER) == Some(number(owner.token())))
    }

    /// Whether somebody else can write it too.
    pub(crate) fn is_shared(&self) -> bool {
        self.lake.owner().is_some()
    }

    /// Makes whom the lake is in the hands of the table's owner, in a commit of its own.
    pub async fn claim(&mut self) -> Result<CommitOutcome, LakeError> {
        let Some(owner) = self.lake.owner() else {
            return Err(LakeError::Bug(format!("{}: nobody claims it", self.path)));
        };
        self.check_certain()?;
        let token = number(owner.token());
        let now = self.lake.clock().now().as_millisecond();
        let mut draft = Draft::new("OWN", now);
        draft.txn(OWNER, token, now)?;
        let entry = draft.finish()?;
        if self.append(&entry).await? == Created::AlreadyThere {
            return Ok(CommitOutcome::Conflict);
        }
        self.state.txns.insert(OWNER.to_owned(), token);
        let (version, bytes) = (self.state.version, entry.len() as u64);
        Ok(CommitOutcome::Written { version, added: Vec::new(), bytes })
    }

    /// That the state which a commit was planned on names us.
    pub(super) fn check_owner(&self) -> Result<(), LakeError> {
        admit(&self.lake, &self.path, &self.state)?;
        match self.is_claimed() {
            true => Ok(()),
            false => {
                Err(LakeError::Bug(format!("{}: it is written before it is claimed", self.path)))
            }
        }
    }

    /// Whether nobody has written it since; an error where somebody has. False where that is not
    /// known: the entry of this version is gone, and the log cannot be told from another table's.
    pub(super) async fn is_newest(&self) -> Result<bool, LakeError> {
        self.check_owner()?;
        match self.look().await? {
            Standing::Same => Ok(true),
            Standing::Other if self.state.entry.is_none() => Ok(false),
            _ if self.is_shared() => {
                Err(LakeError::Fenced(format!("{}: another process has written it", self.path)))
            }
            _ => Err(LakeError::Unavailable {
                what: format!("{}: it is not as this process knows it", self.path),
                source: "another program has written it meanwhile".into(),
            }),
        }
    }
}

/// A token as the log holds numbers.
fn number(token: FencingToken) -> i64 {
    i64::try_from(token.0).unwrap_or(i64::MAX)
}
