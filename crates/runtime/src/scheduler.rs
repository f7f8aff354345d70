//! The triggers of a system: waits until it is due, and starts its run.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{RunFilter, RunRow, RunStatus};
use alluvium_model::SystemName;
use jiff::Timestamp;

use crate::context::{Context, SystemState};
use crate::run::{OpenRun, RunRequest};
use crate::trigger::{MESSAGE, Schedule};

/// Among so many runs the last one is looked for that polled to its end.
const RUNS_LOOKED_AT: u32 = 50;
/// The wall clock is looked at so often at least, because it may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Starts the system's runs when they are due, until no further runs are to begin.
pub(crate) async fn schedule(context: Arc<Context>, name: SystemName, schedules: Vec<Schedule>) {
    let Ok(system) = context.system(&name) else { return };
    let stop = &context.stop.polls;
    let mut last = last_start(&context, &name).await;
    while let Some((due, trigger)) = next(&schedules, context.now(), last) {
        system.note(|seen| seen.next = Some(due));
        if stop.run_until_cancelled(sleep_until(&context, due)).await.is_none() {
            break;
        }
        last = Some(context.now());
        start(&context, system, trigger).await;
    }
    system.note(|seen| seen.next = None);
}

/// The trigger that is due first.
fn next(
    schedules: &[Schedule],
    now: Timestamp,
    last: Option<Timestamp>,
) -> Option<(Timestamp, &'static str)> {
    let times = schedules.iter().filter_map(|s| Some((s.next(now, last)?, s.kind())));
    times.min_by_key(|(due, _)| *due)
}

/// When the system was polled last, so that a restart neither starts its intervals anew nor forgets
/// what was due meanwhile. A run that was broken off was none.
async fn last_start(context: &Context, name: &SystemName) -> Option<Timestamp> {
    let system = Some(name.clone());
    let filter = RunFilter { system, limit: RUNS_LOOKED_AT, ..RunFilter::default() };
    match context.platform.ledger.runs(&filter).await {
        Ok(runs) => runs.iter().find(|run| was_polled(run)).map(|run| run.started_at),
        Err(error) => {
            tracing::warn!(system = %name, %error, "the ledger did not tell the last run");
            None
        }
    }
}

fn was_polled(run: &RunRow) -> bool {
    run.trigger != "publish" && !matches!(run.status, RunStatus::Interrupted | RunStatus::Cancelled)
}

async fn sleep_until(context: &Context, due: Timestamp) {
    loop {
        let left = due.duration_since(context.now());
        let Ok(left) = Duration::try_from(left) else { return };
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// Starts a run, unless one is under way.
async fn start(context: &Arc<Context>, system: &SystemState, trigger: &'static str) {
    let name = &system.spec.name;
    let Ok(turn) = Arc::clone(&system.turn).try_lock_owned() else {
        if trigger == MESSAGE {
            // The run that is under way waits for the messages itself.
            return;
        }
        system.note(|seen| seen.skipped += 1);
        tracing::warn!(system = %name, trigger, "due, but its last run is still under way; skipped");
        return;
    };
    let request = RunRequest { system: name.clone(), entity: None, trigger };
    match OpenRun::open(context, request, turn).await {
        Ok(run) => {
            context.runs.spawn(run.poll());
        }
        Err(error) => tracing::error!(system = %name, %error, "a run could not begin"),
    }
}
