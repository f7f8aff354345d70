//! That nobody else is at work while the bus is left: no other process that shares it is alive, and
//! all leases are in our hands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{Beat, LeaseName, Ledger, Worker};
use alluvium_model::{Clock, EntityId, FencingToken, Layer, SystemClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::destination::Destination;
use crate::wiring::Wired;

/// How the one who moves is called among the processes, before the place that is moved to.
const MOVE: &str = "bus migrate --to ";
/// Should we be killed, others wait no longer.
const TTL: Duration = Duration::from_secs(60);
/// How often the leases are prolonged.
const BEAT: Duration = Duration::from_secs(10);
/// How often we look again whether somebody is still there.
const LOOK: Duration = Duration::from_secs(1);
/// So many leases are taken at once; in between, those that are in hand are prolonged.
const AT_ONCE: usize = 500;
/// So often the number of those in hand may fail to grow.
const IN_VAIN: u32 = 3;

/// The work of all, in our hands.
pub(super) struct Sole {
    hand: Arc<Hand>,
    lost: CancellationToken,
    _keeper: AbortOnDropHandle<()>,
}

struct Hand {
    ledger: Arc<dyn Ledger>,
    worker: Worker,
    /// How long the leases of others last, if there may be others at all.
    others: Option<Duration>,
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
            true => format!("{MOVE}{to}"),
            false => settings.holder.clone(),
        };
        let worker = Worker {
            id,
            // It heeds no metadata, and nobody is to wait until it does.
            revision: u64::MAX >> 1,
            ..Worker::default()
        };
        let ledger = Arc::clone(&wired.ledger);
        let others = settings.shared.then_some(settings.lease_ttl);
        let mut hand = Hand { ledger, worker, others, held: Vec::new() };
        if let Err(error) = hand.fill(&names(wired, entities)).await {
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
            true => Err(at_work("somebody has taken over what was in hand".to_owned())),
            false => self.hand.beat().await,
        }
    }

    /// With what an entity's poll lease is in our hands.
    pub(super) fn poll_token(&self, entity: &EntityId) -> Option<FencingToken> {
        let name = LeaseName::poll(entity);
        self.hand.held.iter().find(|(held, _)| *held == name).map(|(_, token)| *token)
    }

    /// Gives all back, so that the next need not wait until it has run out.
    pub(super) async fn give_back(self) {
        drop(self._keeper);
        self.hand.open().await;
    }
}

impl Hand {
    async fn fill(&mut self, names: &[LeaseName]) -> anyhow::Result<()> {
        let since = SystemClock.instant();
        let mut patience = Duration::ZERO;
        loop {
            let Err(error) = self.try_to_fill(names).await else { return Ok(()) };
            let Some(found) = error.downcast_ref::<AtWork>() else { return Err(error) };
            let needed = needed_patience(self.others, found);
            if needed > patience {
                patience = needed;
                let seconds = patience.as_secs();
                tracing::warn!(
                    "{}; waiting up to {seconds} s whether it has just died",
                    found.what
                );
            }
            if SystemClock.since(since) >= patience {
                return Err(error);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes what is not in hand yet. Fails where as much runs out as is taken, again and again.
    async fn try_to_fill(&mut self, names: &[LeaseName]) -> anyhow::Result<()> {
        if self.others.is_some() {
            self.prolong().await?;
        }
        let (mut most, mut in_vain) = (0, 0);
        loop {
            self.acquire(self.missing(names)).await?;
            if self.held.len() == names.len() {
                return Ok(());
            }
            in_vain = if self.held.len() > most { 0 } else { in_vain + 1 };
            most = most.max(self.held.len());
            let lost = self.prolong().await?;
            if let (true, Some(lost)) = (in_vain >= IN_VAIN, lost.first()) {
                return Err(too_slow(lost, most, names.len()));
            }
        }
    }

    /// The next that are not in hand.
    fn missing(&self, names: &[LeaseName]) -> Vec<LeaseName> {
        let held: BTreeSet<_> = self.held.iter().map(|(name, _)| name).collect();
        names.iter().filter(|name| !held.contains(name)).take(AT_ONCE).cloned().collect()
    }

    async fn acquire(&mut self, names: Vec<LeaseName>) -> anyhow::Result<()> {
        let granted = self.ledger.acquire_leases(&names, &self.worker.id, TTL).await?;
        let ours: BTreeSet<_> = granted.iter().map(|(name, _)| name).collect();
        let refused = names.into_iter().find(|name| !ours.contains(name));
        self.held.extend(granted);
        match refused {
            Some(name) => Err(at_work(format!("another process works on {name}"))),
            None => Ok(()),
        }
    }

    /// Prolongs what is in hand while the rest is being taken, and looks for others. What has run out
    /// is told, and to be taken anew: nothing was done with it yet.
    async fn prolong(&mut self) -> anyhow::Result<Vec<LeaseName>> {
        let Beat { lost, workers, .. } = self.ledger.beat(&self.worker, &self.held, TTL).await?;
        self.held.retain(|(name, _)| !lost.contains(name));
        self.check_alone(&workers)?;
        Ok(lost)
    }

    /// Prolongs what is in hand, all that there is, and looks for others.
    async fn beat(&self) -> anyhow::Result<()> {
        let beat = self.ledger.beat(&self.worker, &self.held, TTL).await?;
        if let Some(lost) = beat.lost.first() {
            return Err(at_work(format!("another process works on {lost}")));
        }
        self.check_alone(&beat.workers)
    }

    fn check_alone(&self, workers: &[Worker]) -> anyhow::Result<()> {
        match workers.iter().find(|worker| worker.id != self.worker.id) {
            Some(Worker { id, .. }) if id.starts_with(MOVE) => {
                Err(AtWork { what: format!("another `{id}` is at work"), is_move: true }.into())
            }
            Some(other) => Err(at_work(format!("the process {} is at work", other.id))),
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

/// For how long, at most, somebody seems to be at work who has just died; `others` is how long the
/// leases of processes last that share the work.
fn needed_patience(others: Option<Duration>, found: &AtWork) -> Duration {
    match others {
        Some(_) if found.is_move => TTL + BEAT,
        Some(ttl) => ttl + BEAT,
        None => Duration::ZERO,
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
#[error("{what}: stop all that use this bus, then give the command again")]
struct AtWork {
    what: String,
    /// Whether that is known to move, too: what such a one leaves behind lasts longer.
    is_move: bool,
}

fn too_slow(lost: &LeaseName, most: usize, of: usize) -> anyhow::Error {
    anyhow::anyhow!(
        "the ledger is too slow: {lost} and others ran out, after {} s, while the rest was being \
         taken, again and again; no more than {most} of {of} leases were in hand. Give the command \
         again when the ledger answers faster",
        TTL.as_secs()
    )
}

fn at_work(what: String) -> anyhow::Error {
    AtWork { what, is_move: false }.into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use alluvium_ledger::SqlLedger;
    use jiff::Timestamp;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn hand(ledger: &Arc<dyn Ledger>, id: &str) -> Hand {
        let worker = Worker { id: id.to_owned(), ..Worker::default() };
        Hand { ledger: Arc::clone(ledger), worker, others: Some(LEASE), held: Vec::new() }
    }

    #[tokio::test]
    async fn a_move_that_was_killed_is_waited_for_until_what_it_left_has_run_out() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqlLedger::open(folder.path().join("ledger.db"), Arc::new(SystemClock)).await;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger.unwrap());
        let needed = async |hand: &Hand| {
            let error = hand.beat().await.unwrap_err();
            needed_patience(Some(LEASE), error.downcast_ref().unwrap())
        };
        let ours = hand(&ledger, "bus migrate --to embedded");
        ours.beat().await.unwrap();
        let elsewhere = hand(&ledger, "bus migrate --to nats://127.0.0.1:9");
        assert!(needed(&elsewhere).await > TTL);
        ours.open().await;
        elsewhere.beat().await.unwrap();
        elsewhere.open().await;
        let worker = hand(&ledger, "7-abc");
        worker.beat().await.unwrap();
        assert!(needed(&ours).await < TTL, "a worker's leases last no longer than it was set");
    }

    /// The clock of a ledger of which each answer takes a while.
    #[derive(Debug)]
    struct Slow {
        answer: Duration,
        answers: AtomicU32,
    }

    impl Clock for Slow {
        fn now(&self) -> Timestamp {
            let answers = self.answers.fetch_add(1, Ordering::Relaxed);
            let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            begin + self.answer * answers
        }

        fn instant(&self) -> Instant {
            SystemClock.instant()
        }
    }

    /// A ledger of which each answer takes so long, which its clock alone tells.
    async fn slow(folder: &std::path::Path, answer: Duration) -> Arc<dyn Ledger> {
        let clock = Slow { answer, answers: AtomicU32::default() };
        Arc::new(SqlLedger::open(folder.join("ledger.db"), Arc::new(clock)).await.unwrap())
    }

    fn polls(entities: std::ops::Range<usize>) -> Vec<LeaseName> {
        let id = |n| format!("shop.e{n}").parse::<EntityId>().unwrap();
        entities.map(|n| LeaseName::poll(&id(n))).collect()
    }

    #[tokio::test]
    async fn what_takes_longer_than_a_lease_lasts_is_taken_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = slow(folder.path(), TTL / 3).await;
        let mut ours = Hand { others: None, ..hand(&ledger, "bus migrate --to embedded") };
        let names = polls(0..AT_ONCE * 6);
        ours.fill(&names).await.unwrap();
        ours.beat().await.unwrap();
        assert_eq!(ours.held.len(), names.len());
        let more = polls(0..names.len() + 1);
        let theirs = ledger.acquire_leases(&more, "them", TTL).await.unwrap();
        assert_eq!(theirs.len(), 1, "all others are ours");
        let found = ours.fill(&more).await.unwrap_err().to_string();
        assert!(found.contains(&format!("works on {}", theirs[0].0)), "{found}");
    }

    #[tokio::test]
    async fn where_leases_run_out_faster_than_they_are_taken_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = slow(folder.path(), TTL * 2).await;
        let mut ours = Hand { others: None, ..hand(&ledger, "bus migrate --to embedded") };
        let names = polls(0..AT_ONCE * 2);
        let told = ours.fill(&names).await.unwrap_err().to_string();
        let part = format!("no more than {AT_ONCE} of {} leases", names.len());
        assert!(told.contains("the ledger is too slow: poll") && told.contains(&part), "{told}");
    }

    #[test]
    fn where_nobody_else_can_be_nobody_is_waited_for() {
        let found = AtWork { what: "another".to_owned(), is_move: false };
        assert_eq!(needed_patience(None, &found), Duration::ZERO);
    }
}
