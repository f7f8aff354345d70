//! Standing by: of the silver tables that another worker writes, and that this one is to have as soon
//! as that worker is gone, or instead of it, the key index is kept here too. A takeover then costs
//! what was committed since the last look, and not a walk through the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_model::{EntityId, EntitySpec, Layer, Stage, StageError};
use serde::Serialize;

use crate::context::Context;
use crate::crew::lands_alike;
use crate::workforce::Workforce;

/// How far a process is that stands by for a silver table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StandbyState {
    /// Whether it has followed the table up to its last look, and could go on with it at once.
    pub is_ready: bool,
    /// Why it could not follow, until it can.
    pub error: Option<String>,
}

/// Tables that are followed, each with the metadata by which it was opened.
type Followed = BTreeMap<EntityId, (EntitySpec, Box<dyn Stage>)>;

/// Follows the tables, until dropped.
pub(crate) async fn stand_by(context: Arc<Context>) {
    let Some(workforce) = &context.workforce else { return };
    let mut heir_to = workforce.heir_to();
    let mut followed = Followed::new();
    loop {
        let entities = heir_to.borrow_and_update().clone();
        for entity in workforce.standby().keys().filter(|entity| !entities.contains(*entity)) {
            followed.remove(entity);
            note(&context, workforce, entity, None);
        }
        for entity in &entities {
            let state = look(&context, workforce, entity, &mut followed).await;
            note(&context, workforce, entity, state);
        }
        // What is new to follow need not wait.
        let _news = tokio::time::timeout(workforce.pulse.every(), heir_to.changed()).await;
    }
}

/// Follows a table. `None` where there is nothing to stand by for.
async fn look(
    context: &Context,
    workforce: &Workforce,
    entity: &EntityId,
    followed: &mut Followed,
) -> Option<StandbyState> {
    // The list may be older than what was taken up since.
    if workforce.has(entity, Layer::Silver) {
        followed.remove(entity);
        return None;
    }
    if !workforce.standby().contains_key(entity) {
        // To make an index anew may take long.
        note(context, workforce, entity, Some(StandbyState::default()));
    }
    match follow(context, entity, followed).await {
        Ok(is_ready) => Some(StandbyState { is_ready, error: None }),
        Err(error) => {
            followed.remove(entity);
            Some(StandbyState { is_ready: false, error: Some(error.to_string()) })
        }
    }
}

/// Follows a table by the metadata that hold now. False where they are not known.
async fn follow(
    context: &Context,
    entity: &EntityId,
    followed: &mut Followed,
) -> Result<bool, StageError> {
    let (Ok(spec), Ok(system)) = (context.entity(entity), context.system(&entity.system)) else {
        return Ok(false);
    };
    followed.retain(|of, (with, _)| of != entity || lands_alike(with, &spec));
    if let Some((_, stage)) = followed.get_mut(entity) {
        stage.follow().await?;
        return Ok(true);
    }
    let stages = &context.platform.stages;
    let mut stage = stages.open(&spec, &system.spec.timezone, Layer::Silver, None).await?;
    stage.follow().await?;
    followed.insert(entity.clone(), (spec, stage));
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
