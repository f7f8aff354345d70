//! Standing by: of the silver tables that another worker writes, and that this one is to have as soon
//! as that worker is gone, or instead of it, the key index is kept here too. A takeover then costs
//! what was committed since the last look, and not a walk through the table.
//!
//! Each table is followed by a task of its own, so that one that takes long holds no other up; no
//! more of them look at the same time than there are cores.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use alluvium_model::{EntityId, EntitySpec, Layer, Stage, StageError};
use futures::FutureExt;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::context::Context;
use crate::crew::lands_alike;
use crate::workforce::Workforce;

/// So many tables are looked at side by side on however small a machine: one that takes long is not
/// to hold up all others.
const AT_LEAST: usize = 2;

/// Who looks at a table for longer than this part of a lease is not ready for it meanwhile.
const BEHIND: u32 = 2;

/// How far a process is that stands by for a silver table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StandbyState {
    /// Whether it has followed the table up to its last look, and could go on with it at once.
    pub is_ready: bool,
    /// Why it could not follow, until it can.
    pub error: Option<String>,
}

/// A table that is followed, with the metadata by which it was opened.
type Followed = (EntitySpec, Box<dyn Stage>);

/// Follows the tables, until dropped.
pub(crate) async fn stand_by(context: Arc<Context>) {
    let Some(workforce) = &context.workforce else { return };
    let mut heir_to = workforce.heir_to();
    let cores = std::thread::available_parallelism().map_or(AT_LEAST, usize::from);
    let looks = Arc::new(Semaphore::new(cores.max(AT_LEAST)));
    let (mut tasks, mut followers) = (JoinSet::new(), BTreeMap::<EntityId, AbortHandle>::new());
    loop {
        let entities = heir_to.borrow_and_update().clone();
        for entity in entities {
            followers.entry(entity).or_insert_with_key(|entity| {
                let task = stand_by_for(Arc::clone(&context), entity.clone(), Arc::clone(&looks));
                // Nobody is gone from here while it still looks at a table.
                tasks.spawn(workforce.leaving.track_future(task))
            });
        }
        tokio::select! {
            _news = heir_to.changed() => {}
            // It may be wanted again by now.
            Some(_) = tasks.join_next() => followers.retain(|_, task| !task.is_finished()),
        }
    }
}

/// Follows a table for as long as this process is to be ready for it.
async fn stand_by_for(context: Arc<Context>, entity: EntityId, looks: Arc<Semaphore>) {
    let Some(workforce) = &context.workforce else { return };
    let mut heir_to = workforce.heir_to();
    let mut followed = None;
    while heir_to.borrow_and_update().contains(&entity) {
        let turn = looks.acquire().await;
        let state = look(&context, workforce, &entity, &mut followed).await;
        drop(turn);
        note(&context, workforce, &entity, state);
        let over = heir_to.wait_for(|entities| !entities.contains(&entity));
        drop(tokio::time::timeout(workforce.pulse.every(), over).await);
    }
    note(&context, workforce, &entity, None);
}

/// Looks at a table. `None` where there is nothing to stand by for.
async fn look(
    context: &Context,
    workforce: &Workforce,
    entity: &EntityId,
    followed: &mut Option<Followed>,
) -> Option<StandbyState> {
    // The list may be older than what was taken up since.
    if workforce.has(entity, Layer::Silver) {
        *followed = None;
        return None;
    }
    if !workforce.stands_by_for(entity) {
        // To make an index anew may take long.
        note(context, workforce, entity, Some(StandbyState::default()));
    }
    let error = match follow_on(context, workforce, entity, followed).await {
        Ok(Ok(is_ready)) => return Some(StandbyState { is_ready, error: None }),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "following it panicked; this is a defect of Alluvium".to_owned(),
    };
    *followed = None;
    Some(StandbyState { is_ready: false, error: Some(error) })
}

/// Follows a table, for which it is not ready where that takes long. An error if that panicked.
async fn follow_on(
    context: &Context,
    workforce: &Workforce,
    entity: &EntityId,
    followed: &mut Option<Followed>,
) -> std::thread::Result<Result<bool, StageError>> {
    let following = AssertUnwindSafe(follow(context, entity, followed)).catch_unwind();
    let mut following = std::pin::pin!(following);
    let part_of_lease = workforce.pulse.ttl() / BEHIND;
    if let Ok(ended) = tokio::time::timeout(part_of_lease, &mut following).await {
        return ended;
    }
    note(context, workforce, entity, Some(StandbyState::default()));
    following.await
}

/// Follows a table by the metadata that hold now. False where they are not known.
async fn follow(
    context: &Context,
    entity: &EntityId,
    followed: &mut Option<Followed>,
) -> Result<bool, StageError> {
    let (Ok(spec), Ok(system)) = (context.entity(entity), context.system(&entity.system)) else {
        return Ok(false);
    };
    if let Some((_, stage)) = followed.as_mut().filter(|(with, _)| lands_alike(with, &spec)) {
        stage.follow().await?;
        return Ok(true);
    }
    *followed = None;
    let stages = &context.platform.stages;
    let mut stage = stages.open(&spec, &system.spec.timezone, Layer::Silver, None).await?;
    stage.follow().await?;
    *followed = Some((spec, stage));
    Ok(true)
}

/// Shows how it stands, and tells what has changed.
fn note(context: &Context, workforce: &Workforce, entity: &EntityId, state: Option<StandbyState>) {
    context.platform.metrics.standby(entity, state.as_ref().map(|state| state.is_ready));
    let before = workforce.note_standby(entity, state.clone()).unwrap_or_default();
    let state = state.unwrap_or_default();
    match (&before.error, &state.error) {
        (None, Some(error)) => {
            // Who takes the layer over makes up for it.
            tracing::warn!(%entity, error, "a silver table of another worker is not followed");
        }
        (Some(_), None) if state.is_ready => {
            tracing::info!(%entity, "a silver table of another worker is followed again");
        }
        _ => {}
    }
}
