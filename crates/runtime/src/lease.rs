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

#[cfg(test)]
mod tests {
    use alluvium_ledger::SqlLedger;
    use alluvium_model::SystemClock;

    use super::*;

    const TTL: Duration = Duration::from_millis(800);

    async fn held() -> (tempfile::TempDir, Arc<SqlLedger>, LeaseName, HeldLease) {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ledger = SqlLedger::open(&folder.path().join("l.db"), Arc::clone(&clock)).await;
        let ledger = Arc::new(ledger.unwrap());
        let name = LeaseName::poll(&"shop.orders".parse().unwrap());
        let port: Arc<dyn Ledger> = ledger.clone();
        let lease = HeldLease::take(&port, &clock, name.clone(), "us", TTL).await.unwrap();
        (folder, ledger, name, lease)
    }

    #[tokio::test]
    async fn a_lease_is_prolonged_while_it_is_held_and_free_once_it_is_given_back() {
        let (_folder, ledger, name, lease) = held().await;
        let lost = tokio::time::timeout(TTL * 2, lease.lost().cancelled()).await;
        assert!(lost.is_err(), "it was prolonged");
        assert!(ledger.acquire_lease(&name, "them", TTL).await.unwrap().is_none());
        lease.release().await;
        assert!(ledger.acquire_lease(&name, "them", TTL).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lease_that_another_has_taken_is_lost() {
        let (_folder, ledger, name, lease) = held().await;
        ledger.acquire_lease(&name, "us", TTL).await.unwrap().unwrap();
        let lost = tokio::time::timeout(TTL, lease.lost().cancelled()).await;
        assert!(lost.is_ok());
    }

    #[tokio::test]
    async fn a_lease_that_cannot_be_prolonged_is_given_up_before_another_can_have_it() {
        let (_folder, ledger, _, lease) = held().await;
        let started = SystemClock.instant();
        ledger.close().await;
        lease.lost().cancelled().await;
        assert!(SystemClock.since(started) < TTL, "{:?}", SystemClock.since(started));
    }
}
