//! Standing by: of the silver tables that another worker writes, and that come to this one as soon as
//! that worker is gone, the key index is kept here too. A takeover then costs what was committed
//! since the last look, and not a walk through the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_model::{EntityId, Layer, Stage, StageError};

use crate::context::Context;
use crate::workforce::Workforce;

/// Follows the tables, until dropped.
pub(crate) async fn stand_by(context: Arc<Context>) {
    let Some(workforce) = &context.workforce else { return };
    let mut followed: BTreeMap<EntityId, Box<dyn Stage>> = BTreeMap::new();
    loop {
        let heir_to = workforce.heir_to();
        followed.retain(|entity, _| heir_to.contains(entity));
        for entity in heir_to {
            if let Err(error) = follow(&context, workforce, &entity, &mut followed).await {
                // Who takes the layer over makes up for it.
                tracing::debug!(%entity, %error, "a silver table of another worker was not followed");
            }
        }
        tokio::time::sleep(workforce.pulse.every()).await;
    }
}

async fn follow(
    context: &Context,
    workforce: &Workforce,
    entity: &EntityId,
    followed: &mut BTreeMap<EntityId, Box<dyn Stage>>,
) -> Result<(), StageError> {
    // The list may be older than what was taken up since.
    if workforce.has(entity, Layer::Silver) {
        followed.remove(entity);
        return Ok(());
    }
    if let Some(stage) = followed.get_mut(entity) {
        return stage.follow().await;
    }
    let (Ok(spec), Ok(system)) = (context.entity(entity), context.system(&entity.system)) else {
        return Ok(());
    };
    let stages = &context.platform.stages;
    let mut stage = stages.open(&spec, &system.spec.timezone, Layer::Silver, None).await?;
    stage.follow().await?;
    followed.insert(entity.clone(), stage);
    Ok(())
}
