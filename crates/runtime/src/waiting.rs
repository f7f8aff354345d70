//! Waiting until the layers have landed what was published.

use alluvium_model::{EntityId, Layer, Position};
use futures::future::select_all;
use serde::Serialize;
use tokio::sync::watch;

use crate::board::{LayerPhase, LayerState};
use crate::context::Context;
use crate::crew::layers_of;
use crate::error::RuntimeError;

/// How far a layer is on the way to what is waited for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProgressUpdate {
    /// The entity.
    pub entity: EntityId,
    /// The layer.
    pub layer: Layer,
    /// The offset of the last message that the layer has landed.
    pub applied: u64,
    /// The offset that is waited for.
    pub target: u64,
    /// How the layer stands.
    pub state: LayerState,
}

/// Waits until all layers of the entity have landed everything up to `target`; raw does not linger.
/// `progress` hears of every step.
pub(crate) async fn wait_applied(
    context: &Context,
    entity: &EntityId,
    target: Position,
    progress: &(impl Fn(ProgressUpdate) + Sync),
) -> Result<(), RuntimeError> {
    let spec = context.entity(entity)?;
    let mut layers: Vec<_> = layers_of(&spec)
        .map(|layer| {
            let slot = context.board.slot(entity, layer);
            slot.want(target.offset);
            (layer, slot.watch())
        })
        .collect();
    let tell = |layer, state: LayerState| {
        let (entity, applied, target) = (entity.clone(), state.applied, target.offset);
        progress(ProgressUpdate { entity, layer, applied, target, state });
    };
    let tries = context.platform.settings.retry.attempts;
    loop {
        let mut waiting = Vec::new();
        for (layer, watch) in &mut layers {
            let state = watch.borrow_and_update().clone();
            let verdict = look(entity, *layer, &state, target, tries);
            tell(*layer, state);
            if !verdict? {
                waiting.push(watch);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        change_of_any(context, waiting).await?;
    }
}

/// Whether the layer is there, or why it will not get there.
fn look(
    entity: &EntityId,
    layer: Layer,
    state: &LayerState,
    target: Position,
    tries: u32,
) -> Result<bool, RuntimeError> {
    if state.applied >= target.offset && state.epoch == Some(target.epoch) {
        return Ok(true);
    }
    let reason = state.error.clone().unwrap_or_default();
    match state.phase {
        LayerPhase::Ended => Err(RuntimeError::Stopping),
        LayerPhase::Stopped => {
            Err(RuntimeError::LayerStopped { layer, entity: entity.clone(), reason })
        }
        LayerPhase::Retrying if state.failures >= tries => {
            let reason = format!("{reason}; tried {} times, and still trying", state.failures);
            Err(RuntimeError::LayerStopped { layer, entity: entity.clone(), reason })
        }
        _ => Ok(false),
    }
}

async fn change_of_any(
    context: &Context,
    waiting: Vec<&mut watch::Receiver<LayerState>>,
) -> Result<(), RuntimeError> {
    let changes = waiting.into_iter().map(|watch| Box::pin(watch.changed()));
    let any = context.stop.all.run_until_cancelled(select_all(changes)).await;
    match any {
        None => Err(RuntimeError::Stopping),
        Some((Ok(()), ..)) => Ok(()),
        Some((Err(_), ..)) => Err(RuntimeError::Defect("a layer's place is gone".to_owned())),
    }
}
