//! Layers that have stopped for good are told to the ledger, so that who looks without this process
//! finds them too. It is no reason to fail where the ledger does not take it.

use alluvium_model::{EntityId, Layer};

use crate::board::LayerPhase;
use crate::context::Context;

/// The layer has stopped, and somebody must act.
pub(crate) async fn stopped(context: &Context, entity: &EntityId, layer: Layer, reason: &str) {
    let ledger = &context.platform.ledger;
    if let Err(error) = ledger.note_stop(entity, layer, reason, context.now()).await {
        tracing::warn!(%entity, %layer, %error, "the ledger did not take that a layer stopped");
    }
}

/// The layer is at work.
pub(crate) async fn works(context: &Context, entity: &EntityId, layer: Layer) {
    if let Err(error) = context.platform.ledger.end_stop(entity, layer).await {
        tracing::warn!(%entity, %layer, %error, "the ledger did not take that a layer works");
    }
}

/// The layer has stopped here, and another process goes on with it.
pub(crate) async fn passed_on(context: &Context, entity: &EntityId, layer: Layer) {
    works(context, entity, layer).await;
    context.board.slot(entity, layer).update(|state| state.phase = LayerPhase::Elsewhere);
}
