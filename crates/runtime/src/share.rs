//! Sharing the work: which of it is this process's, taken and given back as workers come and go.
//!
//! Every second or two a worker tells the ledger that it is alive, hears who else is, and computes
//! who is to do what ([`roster`](crate::roster)). What is its own and free it takes; what is another's
//! by now it brings to an end in good order and gives back; what it could not keep it drops at once.
//! Nobody directs: the leases in the ledger alone decide, and where two workers differ for a moment,
//! one of them waits.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{Beat, Worker};
use alluvium_model::{EntityId, Layer};

use crate::context::Context;
use crate::crew::{is_ready, layers_of};
use crate::handover::{drop_lost, give_back, take};
use crate::recall::remembered;
use crate::retry::chance;
use crate::roster::{Unit, another_can, heirs, owner};
use crate::workforce::{Roster, Schedules, Workforce};

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
    match workforce.beat().await {
        Ok(beat) => {
            keeping(workforce, attend(context, workforce, schedules, &beat)).await;
            let (workers, revision) = (beat.workers, beat.revision);
            workforce.roster.send_replace(Roster { workers, revision, asked: Some(asked) });
        }
        Err(error) => {
            tracing::warn!(%error, "the ledger did not hear that this worker is alive");
            keeping(workforce, drop_lost(context, workforce)).await;
        }
    }
}

/// Does something, and keeps meanwhile what is held: it may have to wait for a layer that starts anew,
/// which lands first what it has in hand, and no lease may run out over that.
async fn keeping(workforce: &Workforce, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        never = keep(workforce) => match never {},
    }
}

/// Does what is to be done by what the ledger told.
async fn attend(context: &Arc<Context>, workforce: &Workforce, schedules: &Schedules, beat: &Beat) {
    hear(context, workforce, beat).await;
    drop_lost(context, workforce).await;
    let me = workforce.pulse.worker().id;
    let (workers, units) = (&beat.workers, units(context, schedules));
    workforce.inherits(inherited(workers, &units, &me));
    for unit in &units {
        // Told of all, so that one that nobody has is seen too.
        if let Unit::Layer(layer, entity) = unit {
            let is_ours = workforce.has(entity, *layer);
            context.platform.metrics.layer_owned(entity, *layer, is_ours);
        }
    }
    // What was found only now is not told yet.
    let is_left = |unit: &Unit| workforce.is_unfit(unit) && another_can(workers, unit, &me);
    let is_ours = |unit: &Unit| owner(workers, unit) == Some(me.as_str()) && !is_left(unit);
    let wanted: BTreeSet<Unit> = units.into_iter().filter(is_ours).collect();
    give_back(context, workforce, &wanted);
    if let Err(error) = take(context, workforce, schedules, &wanted).await {
        tracing::warn!(%error, "no work was taken up");
    }
}

/// Keeps what is held, without end.
async fn keep(workforce: &Workforce) -> Infallible {
    loop {
        tokio::time::sleep(workforce.pulse.every()).await;
        if let Err(error) = workforce.beat().await {
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

/// The entities whose silver another does, and that are to be gone on with here at once.
fn inherited(workers: &[Worker], units: &[Unit], me: &str) -> BTreeSet<EntityId> {
    let silver = units.iter().filter_map(|unit| match unit {
        Unit::Layer(Layer::Silver, entity) => Some((unit, entity)),
        _ => None,
    });
    let ours = silver.filter(|(unit, _)| heirs(workers, unit).contains(&me));
    ours.map(|(_, entity)| entity.clone()).collect()
}
