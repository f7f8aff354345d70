//! The memory that all layers share for the batches that they work on.

use std::sync::Arc;

use alluvium_model::Layer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a permit of the semaphore stands for.
const UNIT: usize = 1 << 10;
/// A layer that found little left takes this much payload at least, so that batches stay worth
/// their while.
const LEAST_BYTES: usize = 4 << 20;

/// The bytes that all layers share.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

/// A share of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    permit: OwnedSemaphorePermit,
    factor: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total = (bytes / UNIT).clamp(1, u32::MAX as usize >> 3);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Room for a batch of up to `bytes` of payload: less where others have most of it, and where
    /// others have nearly all, it waits. `None` when nothing is given out any more.
    pub(crate) async fn take(&self, layer: Layer, bytes: usize) -> Option<(Share, usize)> {
        let factor = working_factor(layer);
        let wanted = units(bytes, factor).min(self.total);
        let least = units(LEAST_BYTES, factor).min(wanted);
        let granted = self.units.available_permits().clamp(least, wanted);
        let permits = u32::try_from(granted).ok()?;
        let permit = Arc::clone(&self.units).acquire_many_owned(permits).await.ok()?;
        let bytes = (granted * UNIT / factor).max(1);
        Some((Share { permit, factor }, bytes))
    }
}

impl Share {
    /// Gives back what a batch of `bytes` does not need.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.permit.num_permits().saturating_sub(units(bytes, self.factor));
        drop(self.permit.split(excess));
    }
}

fn units(bytes: usize, factor: usize) -> usize {
    (bytes.saturating_mul(factor) / UNIT).max(1)
}

/// About how many times its payload a batch takes while a layer works on it: what was parsed,
/// columns, files, and what is known of its keys.
fn working_factor(layer: Layer) -> usize {
    match layer {
        Layer::Raw => 2,
        Layer::Bronze => 4,
        Layer::Silver => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn a_batch_is_smaller_where_others_have_most_of_the_memory() {
        let budget = Budget::new(100 * MIB);
        let (first, bytes) = budget.take(Layer::Raw, 40 * MIB).await.unwrap();
        assert_eq!(bytes, 40 * MIB);
        let (_second, bytes) = budget.take(Layer::Raw, 40 * MIB).await.unwrap();
        assert_eq!(bytes, 10 * MIB, "what is left of 100 MiB, at twice its payload");
        drop(first);
        let (_third, bytes) = budget.take(Layer::Raw, 40 * MIB).await.unwrap();
        assert_eq!(bytes, 40 * MIB);
    }

    #[tokio::test]
    async fn a_batch_waits_where_nothing_is_left_and_what_it_does_not_need_is_given_back() {
        let budget = Budget::new(16 * MIB);
        let (mut share, _) = budget.take(Layer::Raw, 8 * MIB).await.unwrap();
        let other = budget.clone();
        let waiting = tokio::spawn(async move { other.take(Layer::Raw, 8 * MIB).await.is_some() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        share.shrink_to(MIB);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_batch_that_is_larger_than_all_memory_is_made_to_fit() {
        let (_, bytes) = Budget::new(6 * MIB).take(Layer::Silver, 64 * MIB).await.unwrap();
        assert_eq!(bytes, MIB);
    }
}
