//! Whether a topic is the one that the lake knows.

use alluvium_model::{BusError, EntityId, StageError};

use crate::context::Context;

/// Asked before anything is published where the bus has no cursor: it may have been lost. Then the
/// operator has to accept that first, for by it is decided from where the source is read.
pub(crate) async fn is_known<E>(context: &Context, topic: &EntityId) -> Result<(), E>
where
    E: From<BusError> + From<StageError>,
{
    let known = context.platform.stages.epochs(topic).await?.last;
    let (found, _) = context.platform.publisher.end(topic).await?;
    match known.filter(|known| *known != found) {
        Some(expected) => {
            Err(BusError::UnexpectedEpoch { topic: topic.clone(), expected, found }.into())
        }
        None => Ok(()),
    }
}
