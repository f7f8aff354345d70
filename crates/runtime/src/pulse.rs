//! The leases of a worker, and its beat: by one call of the ledger it tells that it is alive, keeps
//! all that it holds, and hears of the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_ledger::{Beat, LeaseName, Ledger, LedgerError, Worker};
use alluvium_model::{Clock, FencingToken, Ownership, Remedy};

/// How often the first beat is tried.
const FIRST_TRIES: u32 = 8;

/// The leases of a worker.
#[derive(Debug)]
pub(crate) struct Pulse {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    worker: Mutex<Worker>,
    held: Mutex<BTreeMap<LeaseName, Ownership>>,
}

/// Why there was no beat.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBeat {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the ledger did not answer in time")]
    Late,
}

impl NoBeat {
    fn may_mend(&self) -> bool {
        match self {
            Self::Ledger(error) => error.remedy() == Remedy::Retry,
            Self::Late => true,
        }
    }
}

impl Pulse {
    pub(crate) fn new(
        ledger: &Arc<dyn Ledger>,
        clock: &Arc<dyn Clock>,
        ttl: Duration,
        worker: Worker,
    ) -> Self {
        let (ledger, clock) = (Arc::clone(ledger), Arc::clone(clock));
        Self { ledger, clock, ttl, worker: Mutex::new(worker), held: Mutex::default() }
    }

    /// The first beat. A ledger that is slow or away is waited for, three lease lives or so.
    pub(crate) async fn begin(&self) -> Result<Beat, NoBeat> {
        for _ in 1..FIRST_TRIES {
            match self.beat().await {
                Err(error) if error.may_mend() => {
                    tracing::warn!(%error, "the ledger has not heard of this process yet");
                    tokio::time::sleep(self.every()).await;
                }
                other => return other,
            }
        }
        self.beat().await
    }

    /// How often it is to beat: several times before half a lease is over.
    pub(crate) fn every(&self) -> Duration {
        self.ttl / 6
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What the others hear of it.
    pub(crate) fn worker(&self) -> Worker {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Alters what the others hear at the next beat.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Worker)) {
        change(&mut self.worker.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What it holds.
    pub(crate) fn held(&self) -> BTreeMap<LeaseName, Ownership> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells that the worker is alive, and prolongs what it holds. What could not be prolonged is
    /// held no longer. Where the ledger does not answer, everything runs out by itself.
    pub(crate) async fn beat(&self) -> Result<Beat, NoBeat> {
        let (worker, held, asked) = (self.worker(), self.held(), self.clock.instant());
        let tokens: Vec<_> =
            held.iter().map(|(name, owner)| (name.clone(), owner.token())).collect();
        let beat = self.ledger.beat(&worker, &tokens, self.ttl);
        let beat = tokio::time::timeout(self.ttl / 4, beat).await.map_err(|_| NoBeat::Late)??;
        for (name, owner) in &held {
            match beat.lost.contains(name) {
                true => self.forget(name, owner),
                false => owner.prolong(asked + self.ttl / 2),
            }
        }
        Ok(beat)
    }

    /// Takes those of the leases that are free.
    pub(crate) async fn take(
        &self,
        names: &[LeaseName],
    ) -> Result<Vec<(LeaseName, Ownership)>, NoBeat> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (holder, asked) = (self.worker().id, self.clock.instant());
        let granted = self.ledger.acquire_leases(names, &holder, self.ttl);
        let granted = tokio::time::timeout(self.ttl / 4, granted).await;
        let owner = |token| Ownership::new(token, Arc::clone(&self.clock), asked + self.ttl / 2);
        let granted: Vec<_> = granted
            .map_err(|_| NoBeat::Late)??
            .into_iter()
            .map(|(name, token): (LeaseName, FencingToken)| (name, owner(token)))
            .collect();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(granted.iter().cloned());
        Ok(granted)
    }

    /// Whether the ledger still knows us as the owner. Asked before anything is begun anew after an
    /// error: it may have come of another owner.
    pub(crate) async fn is_confirmed(
        &self,
        name: &LeaseName,
        owner: &Ownership,
    ) -> Result<bool, LedgerError> {
        let confirmed = self.ledger.renew_lease(name, owner.token(), self.ttl).await?;
        if !confirmed {
            self.forget(name, owner);
        }
        Ok(confirmed && owner.holds())
    }

    /// Gives leases back, so that the next need not wait until they have run out.
    pub(crate) async fn give_back(&self, names: &[LeaseName]) {
        let held = self.held();
        let given = names.iter().filter_map(|name| held.get(name).map(|owner| (name, owner)));
        let given: Vec<_> = given.collect();
        let told: Vec<_> =
            given.iter().map(|(name, owner)| ((*name).clone(), owner.token())).collect();
        given.iter().for_each(|(_, owner)| owner.end());
        if told.is_empty() {
            return;
        }
        if let Err(error) = self.ledger.release_leases(&told).await {
            tracing::debug!(leases = told.len(), %error, "leases were left to run out");
        }
        // Not before: who is broken off in between still has them to give back at its end.
        given.iter().for_each(|(name, owner)| self.forget(name, owner));
    }

    /// Gives everything back, and is gone.
    pub(crate) async fn sign_off(&self) {
        let names: Vec<_> = self.held().into_keys().collect();
        self.give_back(&names).await;
        let id = self.worker().id;
        if let Err(error) = self.ledger.sign_off(&id).await {
            tracing::debug!(worker = id, %error, "the ledger was not told that a worker is gone");
        }
    }

    fn forget(&self, name: &LeaseName, owner: &Ownership) {
        owner.end();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(name).is_some_and(|now| now.token() == owner.token()) {
            held.remove(name);
        }
    }
}
