//! A lease that is kept while its holder works, and given up in time when it cannot be kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_ledger::{LeaseName, Ledger};
use alluvium_model::{Clock, FencingToken};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::PollError;

/// A lease in our hands. Dropping it stops prolonging it; [`HeldLease::release`] gives it back.
#[derive(Debug)]
pub(crate) struct HeldLease {
    ledger: Arc<dyn Ledger>,
    name: LeaseName,
    token: FencingToken,
    lost: CancellationToken,
    keeper: JoinHandle<()>,
}

impl HeldLease {
    /// Takes the lease, or tells that somebody else holds it.
    pub(crate) async fn take(
        ledger: &Arc<dyn Ledger>,
        clock: &Arc<dyn Clock>,
        name: LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Self, PollError> {
        let asked = clock.instant();
        let token = ledger.acquire_lease(&name, holder, ttl).await?.ok_or(PollError::Held)?;
        let lost = CancellationToken::new();
        let keeper = Keeper {
            ledger: Arc::clone(ledger),
            clock: Arc::clone(clock),
            name: name.clone(),
            token,
            ttl,
            renewed: asked,
        };
        let keeper = tokio::spawn(keeper.keep(lost.clone()));
        Ok(Self { ledger: Arc::clone(ledger), name, token, lost, keeper })
    }

    pub(crate) fn token(&self) -> FencingToken {
        self.token
    }

    /// Cancelled when the lease can no longer be relied upon.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it back, so that the next need not wait until it has run out.
    pub(crate) async fn release(self) {
        self.keeper.abort();
        if let Err(error) = self.ledger.release_lease(&self.name, self.token).await {
            tracing::debug!(lease = %self.name, %error, "a lease was left to run out");
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Keeper {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    name: LeaseName,
    token: FencingToken,
    ttl: Duration,
    /// When the lease was asked for the last time that it was granted.
    renewed: Instant,
}

impl Keeper {
    /// Prolongs the lease several times before half of it is over. After that it counts as lost,
    /// while nobody else can have it yet.
    async fn keep(mut self, lost: CancellationToken) {
        while self.clock.since(self.renewed) < self.ttl / 2 {
            tokio::time::sleep(self.ttl / 8).await;
            let asked = self.clock.instant();
            let renew = self.ledger.renew_lease(&self.name, self.token, self.ttl);
            match tokio::time::timeout(self.ttl / 8, renew).await {
                Ok(Ok(true)) => self.renewed = asked,
                Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.name, %error, "a lease was not prolonged");
                }
                Err(_) => tracing::warn!(lease = %self.name, "prolonging a lease takes too long"),
            }
        }
        tracing::warn!(lease = %self.name, "a lease was lost");
        lost.cancel();
    }
}
