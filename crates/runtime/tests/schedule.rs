//! Schedules across a time when nothing ran here.

use std::sync::Arc;

use alluvium_ledger::{EntityCounts, NewRun, RunEnd, RunFilter, RunRow, RunStatus};
use alluvium_model::clock::ManualClock;
use alluvium_model::metadata::{CatchUp, Trigger};
use alluvium_runtime::testkit::{PATIENCE, World, name, until};
use alluvium_runtime::{Platform, Runtime, RuntimeHandle, Triggers};
use jiff::Timestamp;

/// When the process starts: hours after the time of the daily run.
const START: &str = "2026-01-10T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A system that runs daily at half past two.
async fn daily(catch_up: CatchUp) -> World {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 3);
    let expression = "30 2 * * *".to_owned();
    world.systems[0].triggers = vec![Trigger::Cron { expression, timezone: None, catch_up }];
    world
}

/// A run of the system that began then.
async fn ran(world: &World, started: &str, trigger: &str, status: RunStatus) {
    let started_at = at(started);
    let trigger = trigger.to_owned();
    let run = NewRun { system: name("shop"), trigger, started_at, traceparent: None, worker: None };
    let run = world.ledger.open_run(run).await.unwrap();
    let end = RunEnd {
        status,
        reason: None,
        ended_at: started_at,
        entities: EntityCounts::default(),
        polled: 0,
        published: 0,
    };
    world.ledger.finish_run(&run, end).await.unwrap();
}

async fn start(world: &World) -> RuntimeHandle {
    let clock = Arc::new(ManualClock::at(at(START)));
    let platform = Platform { clock, ..world.platform() };
    Runtime::start(platform, Triggers::Heeded).await.unwrap()
}

/// Runs that began at the start or after it, once the next one is awaited.
async fn made_up(world: &World, runtime: &RuntimeHandle) -> Vec<RunRow> {
    let next = || runtime.status().systems[0].next_run;
    until("the next run is awaited", || next().is_some_and(|next| next > at(START))).await;
    assert_eq!(next(), Some(at("2026-01-11T02:30:00Z")));
    // A run that a stop breaks off would be made up for.
    until("no run is under way", || runtime.status().systems[0].running.is_none()).await;
    runtime.shutdown(PATIENCE).await;
    let runs = world.ledger.runs(&RunFilter::default()).await.unwrap();
    runs.into_iter().filter(|run| run.started_at >= at(START)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_passed_while_nothing_ran_are_made_up_for_by_one_run() {
    let world = daily(CatchUp::Latest).await;
    ran(&world, "2026-01-07T02:30:00Z", "cron", RunStatus::Succeeded).await;
    let runs = made_up(&world, &start(&world).await).await;
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].trigger.as_str(), runs[0].started_at), ("cron", at(START)));
    // The run of before counts at the next start.
    let runs = made_up(&world, &start(&world).await).await;
    assert_eq!(runs.len(), 1, "it was made up for twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_up_for_where_nothing_was_missed_or_nobody_wants_it() {
    let world = daily(CatchUp::Latest).await;
    assert_eq!(made_up(&world, &start(&world).await).await, [], "it never ran");
    ran(&world, "2026-01-10T09:00:00Z", "manual", RunStatus::Failed).await;
    assert_eq!(made_up(&world, &start(&world).await).await, [], "it ran since, by hand");

    let world = daily(CatchUp::None).await;
    ran(&world, "2026-01-07T02:30:00Z", "cron", RunStatus::Succeeded).await;
    assert_eq!(made_up(&world, &start(&world).await).await, [], "nobody wants it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_broken_off_or_polled_nothing_is_made_up_for() {
    for (trigger, status) in [("cron", RunStatus::Cancelled), ("publish", RunStatus::Succeeded)] {
        let world = daily(CatchUp::Latest).await;
        ran(&world, "2026-01-09T02:30:00Z", "cron", RunStatus::Succeeded).await;
        ran(&world, "2026-01-10T02:30:00Z", trigger, status).await;
        assert_eq!(made_up(&world, &start(&world).await).await.len(), 1, "{trigger}");
    }
}
