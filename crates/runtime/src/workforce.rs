//! What a process knows of the others that share the work with it, and what is its own of the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use alluvium_ledger::{Beat, LeaseName, Worker};
use alluvium_model::{Clock, EntityId, Layer, Ownership, SystemName};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::platform::Platform;
use crate::pulse::{NoBeat, Pulse};
use crate::roster::{Unit, another_can};
use crate::standby::StandbyState;
use crate::trigger::Schedule;

/// For so many lives of a lease work is left to others that could not be done here.
const UNFIT: u32 = 60;

/// The triggers of systems.
pub(crate) type Schedules = BTreeMap<SystemName, Vec<Schedule>>;

/// Who else works, and what is ours of the work.
pub(crate) struct Workforce {
    pub(crate) pulse: Pulse,
    clock: Arc<dyn Clock>,
    posts: Mutex<BTreeMap<Unit, Post>>,
    /// The entities whose silver is another's, and that this process is to be ready for.
    heir_to: watch::Sender<BTreeSet<EntityId>>,
    /// How far it is with them.
    standby: Mutex<BTreeMap<EntityId, StandbyState>>,
    /// What could not be done here, and until when others are to do it.
    unfit: Mutex<BTreeMap<Unit, Instant>>,
    pub(crate) roster: watch::Sender<Roster>,
    pub(crate) wake: Notify,
    /// Work that is being given back, and looks at tables of others: all that has to come to its end
    /// before this worker is gone.
    pub(crate) leaving: TaskTracker,
}

/// Who works, as the ledger told last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) workers: Vec<Worker>,
    /// The revision of the metadata that hold.
    pub(crate) revision: u64,
    /// When it was asked for.
    pub(crate) asked: Option<Instant>,
}

/// Work that is ours.
#[derive(Default)]
pub(crate) struct Post {
    pub(crate) is_leaving: bool,
    /// Cancelled where it is to end. The layers have a crew of their own instead.
    pub(crate) end: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Workforce {
    pub(crate) fn new(platform: &Platform, stays: bool) -> Self {
        let settings = &platform.settings;
        let worker = Worker {
            id: settings.holder.clone(),
            node: settings.node.clone(),
            roles: settings.roles.clone(),
            stays,
            ..Worker::default()
        };
        let pulse = Pulse::new(&platform.ledger, &platform.clock, settings.lease_ttl, worker);
        Self {
            pulse,
            clock: Arc::clone(&platform.clock),
            posts: Mutex::default(),
            heir_to: watch::channel(BTreeSet::new()).0,
            standby: Mutex::default(),
            unfit: Mutex::default(),
            roster: watch::channel(Roster::default()).0,
            wake: Notify::new(),
            leaving: TaskTracker::new(),
        }
    }

    /// Who works, as the ledger told last.
    pub(crate) fn roster(&self) -> Roster {
        self.roster.borrow().clone()
    }

    /// Tells that this worker is alive and what it can do, and keeps what it holds.
    pub(crate) async fn beat(&self) -> Result<Beat, NoBeat> {
        self.tell();
        self.pulse.beat().await
    }

    fn tell(&self) {
        let held = self.pulse.held();
        let holds = |lease: &LeaseName| held.get(lease).is_some_and(Ownership::holds);
        let needs_index = |unit: &&Unit| unit.needs_index();
        let keeps: BTreeSet<LeaseName> =
            self.posts().keys().filter(needs_index).map(Unit::lease).filter(holds).collect();
        let ready = {
            let standby = self.standing_by();
            let ready = standby.iter().filter(|(_, state)| state.is_ready);
            ready.map(|(entity, _)| LeaseName::layer(Layer::Silver, entity)).collect()
        };
        let unfit = self.unfit().keys().map(Unit::lease).collect();
        self.pulse.tell(|worker| {
            worker.keeps = keeps;
            worker.ready = ready;
            worker.unfit = unfit;
        });
    }

    /// The entities whose silver is another's, and that this process is to be ready for.
    pub(crate) fn heir_to(&self) -> watch::Receiver<BTreeSet<EntityId>> {
        self.heir_to.subscribe()
    }

    /// Says for which entities' silver this process is to be ready.
    pub(crate) fn inherits(&self, entities: BTreeSet<EntityId>) {
        self.heir_to.send_if_modified(|before| {
            let is_news = *before != entities;
            *before = entities;
            is_news
        });
    }

    /// How far it is with the tables for which it stands by.
    pub(crate) fn standby(&self) -> BTreeMap<EntityId, StandbyState> {
        self.standing_by().clone()
    }

    /// Whether anything was noted of a table yet.
    pub(crate) fn stands_by_for(&self, entity: &EntityId) -> bool {
        self.standing_by().contains_key(entity)
    }

    /// Notes how far it is with one of them, `None` where it stands by no more; tells what was noted
    /// before.
    pub(crate) fn note_standby(
        &self,
        entity: &EntityId,
        state: Option<StandbyState>,
    ) -> Option<StandbyState> {
        let mut standby = self.standing_by();
        match state {
            Some(state) => standby.insert(entity.clone(), state),
            None => standby.remove(entity),
        }
    }

    /// Whether work that cannot be done here is left to another, who may have what is missing here.
    /// False where nobody else could do it either: then it stays, and people must act.
    pub(crate) fn passes_on(&self, unit: &Unit) -> bool {
        let can = another_can(&self.roster.borrow().workers, unit, &self.pulse.worker().id);
        if can {
            let until = self.clock.instant() + self.pulse.ttl() * UNFIT;
            self.unfit().insert(unit.clone(), until);
        }
        can
    }

    /// Whether it was left to others, not long ago.
    pub(crate) fn is_unfit(&self, unit: &Unit) -> bool {
        self.unfit().contains_key(unit)
    }

    /// Looks around soon.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether the layer is at work here.
    pub(crate) fn has(&self, entity: &EntityId, layer: Layer) -> bool {
        self.posts().contains_key(&Unit::Layer(layer, entity.clone()))
    }

    /// Whether what is done once for all is done here.
    pub(crate) fn keeps_house(&self) -> bool {
        self.posts().contains_key(&Unit::House)
    }

    /// Whether nobody else works, as far as is known.
    pub(crate) fn is_alone(&self) -> bool {
        let me = self.pulse.worker().id;
        self.roster.borrow().workers.iter().all(|worker| worker.id == me)
    }

    /// Waits until all who work know the metadata that hold now, so that none lands by older ones
    /// what comes next. Not for ever: who does not answer loses its leases.
    pub(crate) async fn settle(&self, context: &Context) {
        let since = context.platform.clock.instant();
        let mut roster = self.roster.subscribe();
        self.wake();
        let settled = roster.wait_for(|roster| {
            let is_new = roster.asked.is_some_and(|asked| asked >= since);
            is_new && roster.workers.iter().all(|worker| worker.revision >= roster.revision)
        });
        if tokio::time::timeout(self.pulse.ttl() * 2, settled).await.is_err() {
            tracing::warn!("not all workers have heard of changed metadata");
        }
    }

    /// The others are to count us out, before the work here has come to its end.
    pub(crate) fn leave(&self) {
        self.pulse.tell(|worker| worker.roles.clear());
        self.wake();
    }

    /// Everything has ended here: gives all leases back.
    pub(crate) async fn left(&self) {
        self.leaving.close();
        self.leaving.wait().await;
        let posts = std::mem::take(&mut *self.posts());
        for (_, mut post) in posts {
            post.tasks.shutdown().await;
        }
        self.pulse.sign_off().await;
    }

    pub(crate) fn posts(&self) -> MutexGuard<'_, BTreeMap<Unit, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing_by(&self) -> MutexGuard<'_, BTreeMap<EntityId, StandbyState>> {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What could not be done here; what is long ago may be tried again.
    fn unfit(&self) -> MutexGuard<'_, BTreeMap<Unit, Instant>> {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.instant();
        unfit.retain(|_, until| *until > now);
        unfit
    }
}
