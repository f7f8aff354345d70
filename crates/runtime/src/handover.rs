//! Taking work up, and giving it back or dropping it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_ledger::LeaseName;
use alluvium_model::Ownership;
use tokio::task::JoinSet;

use crate::board::LayerPhase;
use crate::context::Context;
use crate::pulse::NoBeat;
use crate::roster::Unit;
use crate::workforce::{Post, Schedules, Workforce};
use crate::{housekeeping, scheduler, stops};

/// Drops what is no longer ours, and what has ended by itself so that it may begin anew.
pub(crate) async fn drop_lost(context: &Context, workforce: &Workforce) {
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
                let state = context.board.slot(entity, *layer).state();
                // What has stopped for good stays where it is, and is told.
                if state.phase != LayerPhase::Stopped {
                    ended.push(unit);
                } else if state.is_local && workforce.passes_on(&unit) {
                    stops::passed_on(context, entity, *layer).await;
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
pub(crate) fn give_back(context: &Arc<Context>, workforce: &Workforce, wanted: &BTreeSet<Unit>) {
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
pub(crate) async fn take(
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
