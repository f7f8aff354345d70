//! A lease that is kept while its holder works, and given up in time when it cannot be kept.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger};
use alluvium_model::{Clock, FencingToken, Ownership};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::PollError;

/// So long who waits for a lease waits before it looks again.
const STEP: Duration = Duration::from_millis(10);

/// A lease in our hands. Dropping it stops prolonging it; [`HeldLease::release`] gives it back.
#[derive(Debug)]
pub(crate) struct HeldLease {
    ledger: Arc<dyn Ledger>,
    name: LeaseName,
    ownership: Ownership,
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
        let ownership = Ownership::new(token, Arc::clone(clock), asked + ttl / 2);
        let keeper = Keeper {
            ledger: Arc::clone(ledger),
            clock: Arc::clone(clock),
            name: name.clone(),
            ownership: ownership.clone(),
            ttl,
        };
        let keeper = tokio::spawn(keeper.keep(lost.clone()));
        Ok(Self { ledger: Arc::clone(ledger), name, ownership, lost, keeper })
    }

    pub(crate) fn token(&self) -> FencingToken {
        self.ownership.token()
    }

    /// What it gives, for who asks before a write whether it holds. A process that was stopped past its
    /// lease and wakes may be about to write before anything was cancelled.
    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership.clone()
    }

    /// Cancelled when the lease can no longer be relied upon.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it back, so that the next need not wait until it has run out.
    pub(crate) async fn release(self) {
        self.keeper.abort();
        if let Err(error) = self.ledger.release_lease(&self.name, self.token()).await {
            tracing::debug!(lease = %self.name, %error, "a lease was left to run out");
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Waits while a lease does not hold: it is prolonged yet, or its loss is told. Who waits is to listen
/// for that.
pub(crate) async fn settled(lease: &Ownership) {
    while !lease.holds() {
        tokio::time::sleep(STEP).await;
    }
}

struct Keeper {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    name: LeaseName,
    ownership: Ownership,
    ttl: Duration,
}

impl Keeper {
    /// Prolongs the lease several times before half of it is over. After that it counts as lost,
    /// while nobody else can have it yet.
    async fn keep(self, lost: CancellationToken) {
        while self.ownership.holds() {
            tokio::time::sleep(self.ttl / 8).await;
            let asked = self.clock.instant();
            let renew = self.ledger.renew_lease(&self.name, self.ownership.token(), self.ttl);
            match tokio::time::timeout(self.ttl / 8, renew).await {
                Ok(Ok(true)) => self.ownership.prolong(asked + self.ttl / 2),
                Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.name, %error, "a lease was not prolonged");
                }
                Err(_) => tracing::warn!(lease = %self.name, "prolonging a lease takes too long"),
            }
        }
        tracing::warn!(lease = %self.name, "a lease was lost");
        self.ownership.end();
        lost.cancel();
    }
}

#[cfg(test)]
mod tests {
    use alluvium_ledger::SqlLedger;
    use alluvium_model::clock::ManualClock;

    use super::*;

    /// By a clock that only the tests move. What the keeper waits between two attempts, an eighth
    /// of it, is the machine's time.
    const TTL: Duration = Duration::from_secs(3);
    const STEP: Duration = Duration::from_millis(20);
    /// So long a slow machine may take.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Held {
        lease: HeldLease,
        name: LeaseName,
        ledger: Arc<SqlLedger>,
        clock: Arc<ManualClock>,
        _folder: tempfile::TempDir,
    }

    async fn held() -> Held {
        let folder = tempfile::tempdir().unwrap();
        let manual = Arc::new(ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()));
        let clock: Arc<dyn Clock> = manual.clone();
        let ledger = SqlLedger::open(&folder.path().join("l.db"), Arc::clone(&clock)).await;
        let ledger = Arc::new(ledger.unwrap());
        let name = LeaseName::poll(&"shop.orders".parse().unwrap());
        let port: Arc<dyn Ledger> = ledger.clone();
        let lease = HeldLease::take(&port, &clock, name.clone(), "us", TTL).await.unwrap();
        Held { lease, name, ledger, clock: manual, _folder: folder }
    }

    /// Waits until it was prolonged at the time that it is now.
    async fn is_prolonged(held: &Held) {
        let until = held.clock.now() + TTL;
        let prolonged = async {
            while held.ledger.leases().await.unwrap()[0].expires_at < until {
                tokio::time::sleep(STEP).await;
            }
        };
        tokio::time::timeout(PATIENCE, prolonged).await.expect("it is prolonged");
    }

    #[tokio::test]
    async fn a_lease_is_prolonged_while_it_is_held_and_free_once_it_is_given_back() {
        let held = held().await;
        // For longer than it was granted.
        for _ in 0..10 {
            held.clock.advance(TTL / 8);
            is_prolonged(&held).await;
        }
        assert!(!held.lease.lost().is_cancelled());
        assert!(held.ledger.acquire_lease(&held.name, "them", TTL).await.unwrap().is_none());
        held.lease.release().await;
        assert!(held.ledger.acquire_lease(&held.name, "them", TTL).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lease_that_another_has_taken_is_lost() {
        let held = held().await;
        held.ledger.acquire_lease(&held.name, "us", TTL).await.unwrap().unwrap();
        // The clock stands still: nothing but the ledger's answer tells of it.
        let lost = tokio::time::timeout(PATIENCE, held.lease.lost().cancelled()).await;
        assert!(lost.is_ok());
    }

    #[tokio::test]
    async fn a_lease_that_cannot_be_prolonged_is_given_up_before_another_can_have_it() {
        let held = held().await;
        let started = held.clock.instant();
        held.ledger.close().await;
        // The keeper has its turn between any two steps, also where the machine stood still.
        while !held.lease.lost().is_cancelled() {
            tokio::time::sleep(STEP).await;
            held.clock.advance(STEP);
            let passed = held.clock.since(started);
            assert!(passed < TTL * 3 / 4, "still held after {passed:?} of {TTL:?}");
        }
    }
}
