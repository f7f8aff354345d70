//! Sharing the work: which of it is this process's, taken and given back as workers come and go.
//!
//! Every second or two a worker tells the ledger that it is alive, hears who else is, and computes
//! who is to do what ([`roster`](crate::roster)). What is its own and free it takes; what is another's
//! by now it brings to an end in good order and gives back; what it could not keep it drops at once.
//! Nobody directs: the leases in the ledger alone decide, and where two workers differ for a moment,
//! one of them waits.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alluvium_ledger::{Beat, LeaseName, Worker};
use alluvium_model::{EntityId, Layer, Ownership, SystemName};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::LayerPhase;
use crate::context::Context;
use crate::crew::{is_ready, layers_of};
use crate::platform::Platform;
use crate::pulse::{NoBeat, Pulse};
use crate::recall::remembered;
use crate::retry::chance;
use crate::roster::{Unit, heir, owner};
use crate::trigger::Schedule;
use crate::{housekeeping, scheduler};

/// The triggers of systems.
pub(crate) type Schedules = BTreeMap<SystemName, Vec<Schedule>>;

/// Who else works, and what is ours of the work.
pub(crate) struct Workforce {
    pub(crate) pulse: Pulse,
    posts: Mutex<BTreeMap<Unit, Post>>,
    /// The entities whose silver is another's, and ours as soon as that one is gone.
    heir_to: watch::Sender<BTreeSet<EntityId>>,
    roster: watch::Sender<Roster>,
    wake: Notify,
    /// Work that is being given back.
    leaving: TaskTracker,
}

/// Who works, as the ledger told last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) workers: Vec<Worker>,
    /// The revision of the metadata that hold.
    revision: u64,
    /// When it was asked for.
    pub(crate) asked: Option<Instant>,
}

/// Work that is ours.
#[derive(Default)]
struct Post {
    is_leaving: bool,
    /// Cancelled where it is to end. The layers have a crew of their own instead.
    end: CancellationToken,
    tasks: JoinSet<()>,
}

impl Workforce {
    pub(crate) fn new(platform: &Platform, stays: bool) -> Self {
        let settings = &platform.settings;
        let worker = Worker {
            id: settings.holder.clone(),
            roles: settings.roles.clone(),
            stays,
            claims: BTreeSet::new(),
            revision: 0,
        };
        let pulse = Pulse::new(&platform.ledger, &platform.clock, settings.lease_ttl, worker);
        Self {
            pulse,
            posts: Mutex::default(),
            heir_to: watch::channel(BTreeSet::new()).0,
            roster: watch::channel(Roster::default()).0,
            wake: Notify::new(),
            leaving: TaskTracker::new(),
        }
    }

    /// Who works, as the ledger told last.
    pub(crate) fn roster(&self) -> Roster {
        self.roster.borrow().clone()
    }

    /// The entities whose silver is another's, and ours as soon as that one is gone.
    pub(crate) fn heir_to(&self) -> BTreeSet<EntityId> {
        self.heir_to.borrow().clone()
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

    fn posts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Unit, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shares the work, until dropped.
pub(crate) async fn share(context: Arc<Context>, schedules: Schedules) {
    let Some(workforce) = &context.workforce else { return };
    loop {
        turn(&context, workforce, &schedules).await;
        // Not all at the same moment, and never later than is safe.
        let pause = workforce.pulse.every().mul_f64(0.8 + 0.4 * chance());
        let woken = tokio::time::timeout(pause, workforce.wake.notified()).await;
        if woken.is_ok() {
            // Who calls often is answered often, but not always.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn turn(context: &Arc<Context>, workforce: &Workforce, schedules: &Schedules) {
    let asked = context.platform.clock.instant();
    match workforce.pulse.beat().await {
        Ok(beat) => {
            // A layer that starts anew lands first what it has in hand: no lease may run out over it.
            tokio::select! {
                () = attend(context, workforce, schedules, &beat) => {}
                never = keep(workforce) => match never {},
            }
            let (workers, revision) = (beat.workers, beat.revision);
            workforce.roster.send_replace(Roster { workers, revision, asked: Some(asked) });
        }
        Err(error) => {
            tracing::warn!(%error, "the ledger did not hear that this worker is alive");
            drop_lost(context, workforce).await;
        }
    }
}

/// Does what is to be done by what the ledger told.
async fn attend(context: &Arc<Context>, workforce: &Workforce, schedules: &Schedules, beat: &Beat) {
    hear(context, workforce, beat).await;
    drop_lost(context, workforce).await;
    let me = workforce.pulse.worker().id;
    let wanted: BTreeSet<Unit> = units(context, schedules)
        .into_iter()
        .filter(|unit| owner(&beat.workers, unit) == Some(me.as_str()))
        .collect();
    workforce.heir_to.send_replace(inherited(context, schedules, &beat.workers, &me));
    give_back(context, workforce, &wanted);
    if let Err(error) = take(context, workforce, schedules, &wanted).await {
        tracing::warn!(%error, "no work was taken up");
    }
}

/// Keeps what is held, without end.
async fn keep(workforce: &Workforce) -> Infallible {
    loop {
        tokio::time::sleep(workforce.pulse.every()).await;
        if let Err(error) = workforce.pulse.beat().await {
            tracing::warn!(%error, "the ledger did not hear that this worker is alive");
        }
    }
}

/// What the others tell.
async fn hear(context: &Arc<Context>, workforce: &Workforce, beat: &Beat) {
    for (entity, position) in &beat.wanted {
        for (_, slot) in context.board.of(entity) {
            slot.want(position.offset);
        }
    }
    if workforce.pulse.worker().revision != beat.revision {
        match remembered(context).await {
            Ok(specs) => {
                for spec in specs {
                    if context.learn(std::slice::from_ref(&spec)) {
                        context.crew.ensure(context, &spec).await;
                    }
                }
                workforce.pulse.tell(|worker| worker.revision = beat.revision);
                workforce.wake();
            }
            Err(error) => tracing::warn!(%error, "the ledger did not tell the metadata"),
        }
    }
    let gone = |worker: &Worker| !beat.workers.iter().any(|alive| alive.id == worker.id);
    if workforce.roster().workers.iter().any(gone) {
        let ledger = &context.platform.ledger;
        if let Err(error) = ledger.interrupt_open_runs(context.now()).await {
            tracing::warn!(%error, "runs of a worker that is gone are still listed as running");
        }
    }
}

/// All work that is there to be done, whoever does it.
fn units(context: &Context, schedules: &Schedules) -> Vec<Unit> {
    let mut units = vec![Unit::House];
    units.extend(schedules.keys().map(|system| Unit::Triggers(system.clone())));
    for spec in context.entities().iter().filter(|spec| is_ready(spec)) {
        units.extend(layers_of(spec).map(|layer| Unit::Layer(layer, spec.id())));
    }
    units
}

/// The entities whose silver is to be done here when its owner is gone.
fn inherited(
    context: &Context,
    schedules: &Schedules,
    workers: &[Worker],
    me: &str,
) -> BTreeSet<EntityId> {
    let is_ours = |unit: &Unit| heir(workers, unit).is_some_and(|heir| heir == me);
    let silver = units(context, schedules).into_iter().filter(is_ours);
    silver
        .filter_map(|unit| match unit {
            Unit::Layer(Layer::Silver, entity) => Some(entity),
            _ => None,
        })
        .collect()
}

/// Drops what is no longer ours, and what has ended by itself so that it may begin anew.
async fn drop_lost(context: &Context, workforce: &Workforce) {
    let held = workforce.pulse.held();
    let holds = |unit: &Unit| held.get(&unit.lease()).is_some_and(Ownership::holds);
    let (mut lost, mut ended) = (Vec::new(), Vec::new());
    let units: Vec<Unit> = {
        let posts = workforce.posts();
        posts.iter().filter(|(_, post)| !post.is_leaving).map(|(unit, _)| unit.clone()).collect()
    };
    for unit in units {
        match &unit {
            _ if !holds(&unit) => lost.push(unit),
            Unit::Layer(layer, entity) if context.crew.has_ended(entity, *layer).await => {
                let phase = context.board.slot(entity, *layer).state().phase;
                // What has stopped for good stays where it is, and is told.
                if phase != LayerPhase::Stopped {
                    ended.push(unit);
                }
            }
            _ => {}
        }
    }
    for unit in &lost {
        tracing::warn!(lease = %unit.lease(), "a lease was lost");
        if let Unit::Layer(layer, entity) = unit {
            context.crew.cut(entity, *layer).await;
        }
    }
    for unit in lost.iter().chain(&ended) {
        owned(context, unit, false);
        // Tasks of a post end with it.
        drop(workforce.posts().remove(unit));
    }
    let names: Vec<LeaseName> = lost.iter().chain(&ended).map(Unit::lease).collect();
    workforce.pulse.give_back(&names).await;
}

/// Brings to its end what is another's now, and gives it back then.
fn give_back(context: &Arc<Context>, workforce: &Workforce, wanted: &BTreeSet<Unit>) {
    let mut posts = workforce.posts();
    let unwanted =
        posts.iter_mut().filter(|(unit, post)| !wanted.contains(unit) && !post.is_leaving);
    for (unit, post) in unwanted {
        post.is_leaving = true;
        post.end.cancel();
        let tasks = std::mem::take(&mut post.tasks);
        let (context, unit) = (Arc::clone(context), unit.clone());
        workforce.leaving.spawn(async move { hand_over(&context, unit, tasks).await });
    }
}

async fn hand_over(context: &Context, unit: Unit, mut tasks: JoinSet<()>) {
    let Some(workforce) = &context.workforce else { return };
    match &unit {
        Unit::Layer(layer, entity) => context.crew.give_up(entity, *layer).await,
        Unit::Triggers(system) => {
            tasks.shutdown().await;
            // A run that is on ends here; the next one is another's.
            if let Ok(system) = context.system(system) {
                drop(system.turn.lock().await);
            }
        }
        Unit::House => tasks.shutdown().await,
    }
    workforce.pulse.give_back(&[unit.lease()]).await;
    workforce.posts().remove(&unit);
    owned(context, &unit, false);
    tracing::info!(lease = %unit.lease(), "given back: another worker does it");
}

/// Takes up what is ours and free.
async fn take(
    context: &Arc<Context>,
    workforce: &Workforce,
    schedules: &Schedules,
    wanted: &BTreeSet<Unit>,
) -> Result<(), NoBeat> {
    if context.stop.polls.is_cancelled() {
        return Ok(());
    }
    let missing: BTreeMap<LeaseName, &Unit> = {
        let posts = workforce.posts();
        let missing = wanted.iter().filter(|unit| !posts.contains_key(unit));
        missing.map(|unit| (unit.lease(), unit)).collect()
    };
    let names: Vec<LeaseName> = missing.keys().cloned().collect();
    for (name, ownership) in workforce.pulse.take(&names).await? {
        let Some(unit) = missing.get(&name) else { continue };
        if begin(context, schedules, unit, ownership).await {
            tracing::info!(lease = %name, "taken up");
            owned(context, unit, true);
        } else {
            workforce.pulse.give_back(&[name]).await;
        }
    }
    Ok(())
}

/// Begins a piece of work. False where it cannot begin now.
async fn begin(
    context: &Arc<Context>,
    schedules: &Schedules,
    unit: &Unit,
    ownership: Ownership,
) -> bool {
    let Some(workforce) = &context.workforce else { return false };
    let mut post = Post::default();
    match unit {
        Unit::Layer(layer, entity) => {
            let Ok(spec) = context.entity(entity) else { return false };
            if !context.crew.take(context, &spec, *layer, ownership).await {
                return false;
            }
        }
        Unit::Triggers(system) => {
            let due = schedules.get(system).cloned().unwrap_or_default();
            let (context, system, end) = (Arc::clone(context), system.clone(), post.end.clone());
            post.tasks.spawn(async move {
                end.run_until_cancelled(scheduler::schedule(context, system, due)).await;
            });
        }
        Unit::House => {
            post.tasks.spawn(housekeeping::deliver(Arc::clone(context)));
            post.tasks.spawn(housekeeping::retain(Arc::clone(context)));
        }
    }
    workforce.posts().insert(unit.clone(), post);
    true
}

fn owned(context: &Context, unit: &Unit, is_ours: bool) {
    if let Unit::Layer(layer, entity) = unit {
        context.platform.metrics.layer_owned(entity, *layer, is_ours);
    }
}
