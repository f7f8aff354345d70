//! That nobody polls or lands anything meanwhile: the leases of all entities, in our hands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger};
use alluvium_model::{EntityId, FencingToken, Layer};

use crate::wiring::Wired;

/// Longer than the last steps before a move counts. Should we be killed, others wait no longer.
const TTL: Duration = Duration::from_secs(120);

/// Leases that we hold.
pub(super) struct Claim {
    ledger: Arc<dyn Ledger>,
    held: Vec<(LeaseName, FencingToken)>,
}

impl Claim {
    /// Takes the leases of the entities' polls and layers. Fails where another process has one.
    pub(super) async fn take(wired: &Wired, entities: &BTreeSet<EntityId>) -> anyhow::Result<Self> {
        let mut claim = Self { ledger: Arc::clone(&wired.ledger), held: Vec::new() };
        for entity in entities {
            let layers = Layer::ALL.into_iter().map(|layer| LeaseName::layer(layer, entity));
            for name in std::iter::once(LeaseName::poll(entity)).chain(layers) {
                if let Err(error) = claim.add(wired, name).await {
                    claim.give_back().await;
                    return Err(error);
                }
            }
        }
        Ok(claim)
    }

    async fn add(&mut self, wired: &Wired, name: LeaseName) -> anyhow::Result<()> {
        let holder = &wired.platform.settings.holder;
        let Some(token) = self.ledger.acquire_lease(&name, holder, TTL).await? else {
            anyhow::bail!(
                "another process works on {name}: stop all that use this bus, then give the command \
                 again"
            );
        };
        self.held.push((name, token));
        Ok(())
    }

    /// Gives them back, so that the next need not wait until they have run out.
    pub(super) async fn give_back(self) {
        for (name, token) in self.held {
            if let Err(error) = self.ledger.release_lease(&name, token).await {
                tracing::debug!(lease = %name, %error, "a lease was left to run out");
            }
        }
    }
}
