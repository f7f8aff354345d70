//! That nobody else is at work while the bus is left: no other process that shares it is alive, and
//! all leases are in our hands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger, Worker};
use alluvium_model::{Clock, EntityId, FencingToken, Layer, SystemClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::destination::Destination;
use crate::wiring::Wired;

/// Should we be killed, others wait no longer.
const TTL: Duration = Duration::from_secs(60);
/// How often the leases are prolonged.
const BEAT: Duration = Duration::from_secs(10);
/// How often we look again whether somebody is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The work of all, in our hands.
pub(super) struct Sole {
    hand: Arc<Hand>,
    lost: CancellationToken,
    _keeper: AbortOnDropHandle<()>,
}

struct Hand {
    ledger: Arc<dyn Ledger>,
    worker: Worker,
    /// Whether there may be other processes at all.
    shared: bool,
    held: Vec<(LeaseName, FencingToken)>,
}

impl Sole {
    /// Takes the leases of all that is done with these entities, and for the house. Waits for those
    /// who have just died; fails where another process is at work.
    pub(super) async fn take(
        wired: &Wired,
        entities: &BTreeSet<EntityId>,
        to: &Destination,
    ) -> anyhow::Result<Self> {
        let settings = &wired.platform.settings;
        // The same whenever the move is gone on with, so that it takes up what it had.
        let id = match settings.shared {
            true => format!("bus migrate --to {to}"),
            false => settings.holder.clone(),
        };
        let worker = Worker {
            id,
            // It heeds no metadata, and nobody is to wait until it does.
            revision: u64::MAX >> 1,
            ..Worker::default()
        };
        let ledger = Arc::clone(&wired.ledger);
        let mut hand = Hand { ledger, worker, shared: settings.shared, held: Vec::new() };
        let patience = if settings.shared { settings.lease_ttl + BEAT } else { Duration::ZERO };
        if let Err(error) = hand.fill(&names(wired, entities), patience).await {
            hand.open().await;
            return Err(error);
        }
        let (hand, lost) = (Arc::new(hand), CancellationToken::new());
        let keeper = tokio::spawn(keep(Arc::clone(&hand), lost.clone()));
        Ok(Self { hand, lost, _keeper: AbortOnDropHandle::new(keeper) })
    }

    /// Fails if somebody else has come to be at work.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        match self.lost.is_cancelled() {
            true => Err(at_work("somebody has taken over what was in hand")),
            false => self.hand.beat().await,
        }
    }

    /// Gives all back, so that the next need not wait until it has run out.
    pub(super) async fn give_back(self) {
        drop(self._keeper);
        self.hand.open().await;
    }
}

impl Hand {
    async fn fill(&mut self, names: &[LeaseName], patience: Duration) -> anyhow::Result<()> {
        let since = SystemClock.instant();
        loop {
            let taken = match self.shared {
                true => self.beat().await,
                false => Ok(()),
            };
            let taken = match taken {
                Ok(()) => self.acquire(names).await,
                refused => refused,
            };
            match taken {
                Err(error) if error.is::<AtWork>() && SystemClock.since(since) < patience => {
                    tracing::info!("{error:#}; waiting whether it has just died");
                    tokio::time::sleep(LOOK).await;
                }
                other => return other,
            }
        }
    }

    /// Takes what is not in hand yet.
    async fn acquire(&mut self, names: &[LeaseName]) -> anyhow::Result<()> {
        for name in &names[self.held.len()..] {
            let token = self.ledger.acquire_lease(name, &self.worker.id, TTL).await?;
            let token =
                token.ok_or_else(|| at_work(&format!("another process works on {name}")))?;
            self.held.push((name.clone(), token));
        }
        Ok(())
    }

    /// Prolongs what is in hand, and looks for others.
    async fn beat(&self) -> anyhow::Result<()> {
        let beat = self.ledger.beat(&self.worker, &self.held, TTL).await?;
        if let Some(lost) = beat.lost.first() {
            return Err(at_work(&format!("another process works on {lost}")));
        }
        match beat.workers.iter().find(|worker| worker.id != self.worker.id) {
            Some(other) => Err(at_work(&format!("the process {} is at work", other.id))),
            None => Ok(()),
        }
    }

    async fn open(&self) {
        let released = self.ledger.release_leases(&self.held).await;
        if let Err(error) = released.and(self.ledger.sign_off(&self.worker.id).await) {
            tracing::debug!(%error, "leases were left to run out");
        }
    }
}

async fn keep(hand: Arc<Hand>, lost: CancellationToken) {
    loop {
        tokio::time::sleep(BEAT).await;
        match hand.beat().await {
            Err(error) if error.is::<AtWork>() => return lost.cancel(),
            Err(error) => tracing::warn!(%error, "leases were not prolonged"),
            Ok(()) => {}
        }
    }
}

/// All that there may be to do.
fn names(wired: &Wired, entities: &BTreeSet<EntityId>) -> Vec<LeaseName> {
    let systems = wired.platform.systems.iter().map(|system| LeaseName::triggers(&system.name));
    let mut names: Vec<_> = std::iter::once(LeaseName::house()).chain(systems).collect();
    for entity in entities {
        names.push(LeaseName::poll(entity));
        names.extend(Layer::ALL.into_iter().map(|layer| LeaseName::layer(layer, entity)));
    }
    names
}

/// Somebody else is at work.
#[derive(Debug, thiserror::Error)]
#[error("{0}: stop all that use this bus, then give the command again")]
struct AtWork(String);

fn at_work(what: &str) -> anyhow::Error {
    AtWork(what.to_owned()).into()
}
