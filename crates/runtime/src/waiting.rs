//! Waiting until the layers have landed what was published.

use std::time::Duration;

use alluvium_ledger::{LayerStop, LayerTotals, Ledger, LedgerError};
use alluvium_model::{EntityId, Layer, Position};
use futures::future::select_all;
use serde::Serialize;
use tokio::sync::watch;

use crate::board::{LayerPhase, LayerState};
use crate::context::Context;
use crate::crew::layers_of;
use crate::error::RuntimeError;
use crate::retry::Attempts;
use crate::workforce::Workforce;

/// How often it is looked how far layers elsewhere are.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is told what is waited for.
const ASK_AGAIN: Duration = Duration::from_secs(20);

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
    match &context.workforce {
        Some(workforce) => wait_anywhere(context, workforce, entity, target, progress).await,
        None => wait_here(context, entity, target, progress).await,
    }
}

async fn wait_here(
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

/// Waits for layers that may be at work in any process: those elsewhere tell the ledger how far they
/// are, and hear from it what is waited for.
async fn wait_anywhere(
    context: &Context,
    workforce: &Workforce,
    entity: &EntityId,
    target: Position,
    progress: &(impl Fn(ProgressUpdate) + Sync),
) -> Result<(), RuntimeError> {
    let layers: Vec<_> = layers_of(&context.entity(entity)?).collect();
    let (ledger, clock) = (&context.platform.ledger, &context.platform.clock);
    let tries = context.platform.settings.retry.attempts;
    let mut attempts = Attempts::new(&context.platform.settings.retry);
    let mut asked = None;
    loop {
        let is_due = asked.is_none_or(|asked| clock.since(asked) >= ASK_AGAIN);
        let (totals, stops) = match ask(&**ledger, entity, is_due.then_some(target)).await {
            Ok(told) => told,
            Err(error) => {
                let stop = &context.stop.all;
                if attempts.pause(error.remedy(), stop).await.is_err() {
                    return Err(error.into());
                }
                if stop.is_cancelled() {
                    return Err(RuntimeError::Stopping);
                }
                continue;
            }
        };
        attempts.succeeded();
        if is_due {
            asked = Some(clock.instant());
        }
        let mut all = true;
        for layer in &layers {
            let slot = context.board.slot(entity, *layer);
            slot.want(target.offset);
            let mut state = slot.state();
            if !workforce.has(entity, *layer) {
                let stop = stops.iter().find(|stop| (&stop.entity, stop.layer) == (entity, *layer));
                state = elsewhere(stop);
            }
            let told = totals.iter().find(|t| t.layer == *layer && t.epoch == target.epoch);
            if let Some(told) = told.filter(|told| told.offset >= state.applied) {
                (state.applied, state.epoch) = (told.offset, Some(told.epoch));
            }
            let verdict = look(entity, *layer, &state, target, tries);
            let (entity, layer, applied) = (entity.clone(), *layer, state.applied);
            progress(ProgressUpdate { entity, layer, applied, target: target.offset, state });
            all &= verdict?;
        }
        if all {
            return Ok(());
        }
        let pause = tokio::time::sleep(LOOK_AGAIN);
        if context.stop.all.run_until_cancelled(pause).await.is_none() {
            return Err(RuntimeError::Stopping);
        }
    }
}

/// Tells the ledger what is waited for, where it is time, and hears how far the layers are.
async fn ask(
    ledger: &dyn Ledger,
    entity: &EntityId,
    target: Option<Position>,
) -> Result<(Vec<LayerTotals>, Vec<LayerStop>), LedgerError> {
    if let Some(target) = target {
        ledger.want(entity, target).await?;
    }
    Ok((ledger.totals(entity).await?, ledger.stops().await?))
}

/// What the ledger tells of a layer that is not at work here.
fn elsewhere(stop: Option<&LayerStop>) -> LayerState {
    let phase = if stop.is_some() { LayerPhase::Stopped } else { LayerPhase::Elsewhere };
    LayerState { phase, error: stop.map(|stop| stop.reason.clone()), ..LayerState::default() }
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
