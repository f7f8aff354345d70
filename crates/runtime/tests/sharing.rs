//! Several workers on one bus, one ledger and one lake: who does what, and what happens when one of
//! them comes, goes or dies.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use alluvium_ledger::{Ledger, SqlLedger};
use alluvium_model::metadata::Trigger;
use alluvium_model::{Clock, Layer, Role, SystemClock};
use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::{LEASE, PATIENCE, World, id, until};
use alluvium_runtime::{LayerPhase, Platform, Runtime, RuntimeHandle, Triggers};
use jiff::Timestamp;

use crate::fleet::{entities, layers, publish, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_start_at_the_same_time_share_the_work_and_land_everything_once() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 12);
    let (a, b, c) = tokio::join!(world.join("a"), world.join("b"), world.join("c"));
    shared(&[&a, &b, &c], entities.len()).await;
    for entity in &entities {
        // Through one, whoever has the layers; waited for through another.
        let end = publish(&a, entity, 1..=5).await;
        c.wait_applied(entity, end, |_| ()).await.unwrap();
        world.lake.assert_holds(&entity.to_string(), 5);
        assert_eq!(world.ledger.conservation(entity).await.unwrap(), []);
    }
    for worker in [a, b, c] {
        worker.shutdown(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_joins_takes_a_share_and_who_leaves_gives_it_back_at_once() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 12);
    let a = world.join("a").await;
    assert_eq!(shared(&[&a], 12).await, [36]);
    let before = publish(&a, &entities[0], 1..=3).await;
    a.wait_applied(&entities[0], before, |_| ()).await.unwrap();
    let b = world.join("b").await;
    until("each has a share", || [&a, &b].iter().all(|worker| layers(worker).len() >= 6)).await;
    shared(&[&a, &b], 12).await;
    // Long before its leases would have run out.
    let left = SystemClock.instant();
    b.shutdown(PATIENCE).await;
    assert_eq!(shared(&[&a], 12).await, [36]);
    assert!(SystemClock.since(left) < PATIENCE);
    let after = publish(&a, &entities[0], 4..=6).await;
    a.wait_applied(&entities[0], after, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.table0", 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_is_stopped_keeps_a_layer_until_it_has_landed_what_it_has_in_hand() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let orders = id("shop.orders");
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let (wake, frozen) = mpsc::channel();
    world.lake.fault("shop.orders", Layer::Silver, Fault::Freeze(frozen));
    publish(&a, &orders, 1..=4).await;
    let stands_still =
        || world.lake.with("shop.orders", Layer::Silver, |silver| silver.faults.is_empty());
    until("silver is in the middle of a batch", stands_still).await;
    let stopping = tokio::spawn({
        let a = a.clone();
        async move { a.shutdown(PATIENCE * 2).await }
    });
    let last = BTreeSet::from(["silver/shop.orders".to_owned()]);
    until("the other layers were given back", || layers(&a) == last).await;
    wake.send(()).unwrap();
    stopping.await.unwrap();
    assert_eq!(world.lake.ids("shop.orders", Layer::Silver), [1, 2, 3, 4]);
    assert_eq!(world.lake.with("shop.orders", Layer::Silver, |silver| silver.fenced.len()), 0);
    assert!(layers(&a).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_dead_worker_had_is_taken_over_and_nobody_does_what_no_role_is_for() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 8);
    let (mut platform, cut) = world.worker("a").await;
    platform.settings.roles = [Role::Raw, Role::Connect].into();
    let a = Runtime::start(platform, Triggers::Heeded).await.unwrap();
    let (mut platform, _) = world.worker("b").await;
    platform.settings.roles = [Role::Bronze, Role::Silver].into();
    let b = Runtime::start(platform, Triggers::Heeded).await.unwrap();
    assert_eq!(shared(&[&a, &b], 8).await, [8, 16]);
    // It can neither prolong nor give back: to the others it is dead.
    cut.close().await;
    let c = world.join("c").await;
    until("its work is another's", || layers(&c).len() >= 8).await;
    until("it has noticed itself", || layers(&a).is_empty()).await;
    let end = publish(&c, &entities[3], 1..=4).await;
    b.wait_applied(&entities[3], end, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.table3", 4);
    let phase = |layer: Layer| {
        let state = a.status().entities.into_iter().find(|e| e.entity == entities[3]).unwrap();
        state.layers.into_iter().find(|l| l.layer == layer).unwrap().state.phase
    };
    assert_eq!(phase(Layer::Raw), LayerPhase::Elsewhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_schedule_fires_in_one_worker_only() {
    let mut world = World::new().await;
    // Nobody waits for what a schedule brings, so that raw lands when it has lingered.
    world.settings.raw_linger = Duration::from_millis(50);
    world.system("shop", &["orders"]).has("orders", 3);
    world.systems[0].triggers = vec![Trigger::Interval { seconds: 1 }];
    let (a, b) = tokio::join!(world.join("a"), world.join("b"));
    // By their names it is `b` who has the triggers. The other may have had them, and have polled,
    // before it knew of `b`; from then on it does not.
    until("who is to have the triggers has them", || {
        let holds = b.status().worker.unwrap().holds;
        holds.iter().any(|name| name.as_str() == "triggers/shop")
    })
    .await;
    let last = |worker: &RuntimeHandle| {
        worker.status().systems[0].last_run.as_ref().map(|run| run.run.clone())
    };
    let (of_the_other, mut runs) = (last(&a), BTreeSet::new());
    until("it was polled several times", || {
        runs.extend(last(&b));
        runs.len() >= 3
    })
    .await;
    assert_eq!(last(&a), of_the_other, "only one of them polls");
    until("what was polled has landed", || {
        let landed = |layer| world.lake.ids("shop.orders", layer).len();
        landed(Layer::Raw) >= 3 && Layer::ALL.iter().all(|l| landed(*l) == landed(Layer::Raw))
    })
    .await;
    world.lake.assert_holds("shop.orders", world.lake.ids("shop.orders", Layer::Raw).len() as u64);
}

/// The machine's clock, and how far it was set ahead.
#[derive(Debug, Default)]
struct Jumping(Mutex<Duration>);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().unwrap()
    }

    fn instant(&self) -> Instant {
        SystemClock.instant() + *self.0.lock().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_whose_clock_jumps_goes_on_when_the_ledger_has_confirmed_its_leases() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let clock = Arc::new(Jumping::default());
    let (platform, _ledger) = world.worker("a").await;
    let a = Runtime::start(Platform { clock: clock.clone(), ..platform }, Triggers::Heeded);
    let a = a.await.unwrap();
    shared(&[&a], 1).await;
    let end = publish(&a, &id("shop.orders"), 1..=3).await;
    a.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    *clock.0.lock().unwrap() = LEASE;
    let end = publish(&a, &id("shop.orders"), 4..=6).await;
    a.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.orders", 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn work_stops_while_the_ledger_is_away_and_goes_on_when_it_is_back() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let end = publish(&a, &id("shop.orders"), 1..=3).await;
    a.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    let path = world.folder.path().join("ledger.db");
    let other = SqlLedger::open(path.as_path(), Arc::new(SystemClock)).await.unwrap();
    let held = other.hold().await.unwrap();
    let phase = || a.status().entities[0].layers[2].state.phase;
    until("silver has stopped", || phase() == LayerPhase::Elsewhere).await;
    assert!(!a.status().worker.unwrap().is_heard);
    drop(held);
    until("silver is at work again", || phase() == LayerPhase::Running).await;
    let end = publish(&a, &id("shop.orders"), 4..=6).await;
    a.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.orders", 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_beside_workers_leaves_their_work_to_them_and_alone_it_does_it_itself() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let (platform, _) = world.worker("command").await;
    let command = Runtime::start(platform, Triggers::Ignored).await.unwrap();
    let end = publish(&command, &id("shop.orders"), 1..=3).await;
    command.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    command.shutdown(PATIENCE).await;
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let (platform, _) = world.worker("another command").await;
    let command = Runtime::start(platform, Triggers::Ignored).await.unwrap();
    let end = publish(&command, &id("shop.orders"), 4..=6).await;
    command.wait_applied(&id("shop.orders"), end, |_| ()).await.unwrap();
    assert!(layers(&command).is_empty(), "it is all another's");
    world.lake.assert_holds("shop.orders", 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_takes_layers_from_a_worker_and_gives_them_back() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let (clock, orders): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), id("shop.orders"));
    let of = (&orders, &[Layer::Silver][..]);
    let claim = alluvium_runtime::Claim::take(&world.ledger, &clock, "rebuild", LEASE, of);
    let claim = claim.await.unwrap();
    assert!(claim.owner(Layer::Silver).unwrap().holds());
    assert!(claim.owner(Layer::Raw).is_none());
    assert!(!layers(&a).contains("silver/shop.orders"));
    claim.give_back().await;
    until("it is the worker's again", || layers(&a).contains("silver/shop.orders")).await;
    let leases = world.ledger.leases().await.unwrap();
    assert!(leases.iter().all(|lease| lease.holder == "a"), "{leases:?}");
}
