//! Leases that a command needs for itself, where workers that stay have them: they are asked to give
//! them back, and do so between two batches.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger, Worker};
use alluvium_model::{Clock, EntityId, Layer, Ownership};
use tokio_util::task::AbortOnDropHandle;

use crate::error::RuntimeError;
use crate::pulse::Pulse;

/// How often it is looked whether a lease is free.
const LOOK: Duration = Duration::from_millis(200);
/// For so many lives of a lease it is waited until others have given theirs back.
const PATIENCE: u32 = 6;

/// Layers of an entity that nobody else writes until [`Claim::give_back`].
pub struct Claim {
    pulse: Arc<Pulse>,
    owners: Vec<(Layer, Ownership)>,
    _beats: AbortOnDropHandle<()>,
}

impl Claim {
    /// Takes the layers over from whoever has them. `holder` must be a name that nobody else has.
    /// [`RuntimeError::NotGiven`] where they are not given back in time.
    pub async fn take(
        ledger: &Arc<dyn Ledger>,
        clock: &Arc<dyn Clock>,
        holder: &str,
        ttl: Duration,
        (entity, layers): (&EntityId, &[Layer]),
    ) -> Result<Self, RuntimeError> {
        let names: Vec<_> = layers.iter().map(|layer| LeaseName::layer(*layer, entity)).collect();
        let worker = Worker {
            id: holder.to_owned(),
            claims: names.iter().cloned().collect(),
            revision: u64::MAX >> 1,
            ..Worker::default()
        };
        let pulse = Arc::new(Pulse::new(ledger, clock, ttl, worker));
        let asked = clock.instant();
        let mut owners = Vec::new();
        while owners.len() < layers.len() {
            if clock.since(asked) > ttl * PATIENCE {
                pulse.sign_off().await;
                return Err(RuntimeError::NotGiven(entity.clone()));
            }
            if let Err(error) = pulse.beat().await {
                tracing::warn!(%error, "the ledger did not hear of a claim");
            }
            let held = pulse.held();
            let missing: Vec<_> =
                names.iter().filter(|name| !held.contains_key(name)).cloned().collect();
            if let Err(error) = pulse.take(&missing).await {
                tracing::warn!(%error, "the ledger did not grant a lease");
            }
            let held = pulse.held();
            let of = |layer: &Layer| held.get(&LeaseName::layer(*layer, entity)).cloned();
            owners = layers.iter().filter_map(|layer| Some((*layer, of(layer)?))).collect();
            if owners.len() < layers.len() {
                tokio::time::sleep(LOOK).await;
            }
        }
        let beats = tokio::spawn(keep(Arc::clone(&pulse)));
        Ok(Self { pulse, owners, _beats: AbortOnDropHandle::new(beats) })
    }

    /// The right to write a layer, if it is one of those that were taken.
    pub fn owner(&self, layer: Layer) -> Option<&Ownership> {
        self.owners.iter().find(|(of, _)| *of == layer).map(|(_, owner)| owner)
    }

    /// Gives the layers back.
    pub async fn give_back(self) {
        self.pulse.sign_off().await;
    }
}

/// Keeps what was taken.
async fn keep(pulse: Arc<Pulse>) {
    loop {
        tokio::time::sleep(pulse.every()).await;
        if let Err(error) = pulse.beat().await {
            tracing::warn!(%error, "leases were not prolonged");
        }
    }
}
