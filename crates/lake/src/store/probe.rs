//! Proof that a store keeps what is there from being written over.
//!
//! An object is created twice under one name, with other bytes the second time. A store that does
//! not know the condition takes both, or says that it does not know it.

use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use uuid::Uuid;

use super::{Answer, Blame, Created, Lake};
use crate::LakeError;

/// Where the objects of proofs stand, each for a moment.
const FOLDER: &str = "_probe";
/// What a process that was killed left there goes after so long.
const LEFTOVER: TimeDelta = TimeDelta::days(1);
/// Clocks that differ by more are told of.
const NOTABLE: TimeDelta = TimeDelta::minutes(1);

/// Proves it, and says how far the store's clock is behind ours.
pub(super) async fn prove(lake: &Lake) -> Result<TimeDelta, LakeError> {
    let path = Path::from(FOLDER).join(Uuid::new_v4().to_string());
    match create_twice(lake, &path).await {
        Ok(()) => {}
        Err(error @ LakeError::Unfit(_)) => {
            lake.delete(&path).await?;
            return Err(error);
        }
        // The store would say the same of removing it.
        Err(error) => return Err(error),
    }
    let (now, mut behind) = (now(lake), TimeDelta::zero());
    let mut doomed = vec![path.clone()];
    for ObjectMeta { location, last_modified, .. } in lake.list(&Path::from(FOLDER)).await? {
        if location == path {
            behind = now - last_modified;
        } else if now - last_modified > LEFTOVER {
            doomed.push(location);
        }
    }
    lake.delete_all(doomed).await?;
    if behind.abs() > NOTABLE {
        let seconds = -behind.num_seconds();
        tracing::warn!(seconds, "the clock of the lake's store is not ours");
    }
    Ok(behind.max(TimeDelta::zero()))
}

async fn create_twice(lake: &Lake, path: &Path) -> Result<(), LakeError> {
    let (first, second) = ("first", "second");
    match lake.create(path, PutPayload::from(first)).await.map_err(not_known)? {
        Created::Written => {}
        Created::AlreadyThere => {
            return Err(unfit(format!("it says of {path} that it is there, and nobody wrote it")));
        }
    }
    if lake.create(path, PutPayload::from(second)).await.map_err(not_known)? == Created::Written {
        return Err(unfit(
            "an object was written over although `If-None-Match: *` forbade it".to_owned(),
        ));
    }
    match lake.get(path).await? {
        Some(bytes) if bytes == first => Ok(()),
        Some(_) => Err(unfit("it refused to write over an object, and did all the same".into())),
        None => Err(unfit("an object that was just written is not there".to_owned())),
    }
}

fn unfit(seen: String) -> LakeError {
    LakeError::Unfit(seen)
}

/// A store that says that it does not know the request is not fit; other errors stay.
fn not_known(error: LakeError) -> LakeError {
    let blame = Answer::in_chain(&error).and_then(Answer::blame);
    match blame {
        Some(Blame::Unknown) => unfit(format!("it refused a conditional put: {}", error.detail())),
        _ => error,
    }
}

fn now(lake: &Lake) -> DateTime<Utc> {
    DateTime::from(SystemTime::from(lake.clock().now()))
}
