//! Work that moves between workers that live: silver to who has followed its table, what cannot be
//! done in one place to another one, and with the work what is told of it.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{Clock, Column, ColumnType, EntityId, Layer, StageError, SystemClock};
use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::{PATIENCE, World, id, until};
use alluvium_runtime::{Runtime, RuntimeError, RuntimeHandle, StandbyStatus, Triggers};
use tokio::sync::oneshot;

use crate::fleet::{entities, holds, layers, publish, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_to_take_a_silver_table_over_follows_it_until_then() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 6);
    let a = world.join("a").await;
    shared(&[&a], 6).await;
    let followed = |layer| {
        let of = |id: &EntityId| world.lake.with(&id.to_string(), layer, |landed| landed.followed);
        entities.iter().map(of).collect::<Vec<u64>>()
    };
    assert_eq!(followed(Layer::Silver), [0; 6], "nobody else is there");
    let b = world.join("b").await;
    shared(&[&a, &b], 6).await;
    until("each table has somebody who stands by", || {
        followed(Layer::Silver).iter().all(|times| *times > 1)
    })
    .await;
    assert_eq!(followed(Layer::Bronze), [0; 6], "there is nothing to keep");
    b.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_that_takes_long_to_follow_holds_up_no_other() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 6);
    let a = world.join("a").await;
    shared(&[&a], 6).await;
    let (go_on, held) = oneshot::channel();
    world.lake.with("shop.table0", Layer::Silver, |silver| silver.held_follow = Some(held));
    let b = world.join("b").await;
    let followed =
        |id: &EntityId| world.lake.with(&id.to_string(), Layer::Silver, |silver| silver.followed);
    let is_looked_at =
        || world.lake.with("shop.table0", Layer::Silver, |silver| silver.held_follow.is_none());
    until("who joined looks at the table", is_looked_at).await;
    let before: Vec<u64> = entities.iter().map(followed).collect();
    until("all others are followed, again and again", || {
        entities.iter().zip(&before).skip(1).all(|(id, before)| followed(id) > before + 1)
    })
    .await;
    drop(go_on);
    until("the held one is followed too", || followed(&entities[0]) > 1).await;
    b.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_much_to_follow_is_not_ready_until_it_has() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let a = world.join("a").await;
    let b = world.join("b").await;
    let ready = || [&a, &b].map(|worker| standby(worker).first().map(|by| by.state.is_ready));
    let looks = || world.lake.with("shop.orders", Layer::Silver, |silver| silver.followed);
    // It may go to who is ready first, if that is its place: then the other one stands by.
    let (mut stood, mut since) = (ready(), looks());
    until("one stands by for what the other has, and it stays so", || {
        if stood != ready() {
            (stood, since) = (ready(), looks());
        }
        stood.contains(&Some(true)) && looks() > since + 5
    })
    .await;
    let (go_on, held) = oneshot::channel();
    world.lake.with("shop.orders", Layer::Silver, |silver| silver.held_follow = Some(held));
    until("it is behind", || ready().contains(&Some(false))).await;
    drop(go_on);
    until("it has caught up", || ready().contains(&Some(true))).await;
}

/// For what a worker stands by.
fn standby(runtime: &RuntimeHandle) -> Vec<StandbyStatus> {
    runtime.status().worker.unwrap().stands_by
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn silver_moves_to_who_joins_once_that_one_has_followed_its_table() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 12);
    let unfollowable = |reason: Option<&str>| {
        for entity in &entities {
            world.lake.with(&entity.to_string(), Layer::Silver, |silver| {
                silver.unfollowable = reason.map(str::to_owned);
            });
        }
    };
    unfollowable(Some("as told"));
    let a = world.join("a").await;
    shared(&[&a], 12).await;
    let (platform, _ledger) = world.worker("b").await;
    let metrics = Arc::clone(&platform.metrics);
    let b = Box::pin(Runtime::start(platform, Triggers::Heeded)).await.unwrap();
    until("it has a share, and tells that it cannot follow", || {
        let told =
            |by: &StandbyStatus| by.state.error.as_ref().is_some_and(|e| e.contains("as told"));
        let standby = standby(&b);
        !layers(&b).is_empty() && standby.len() == 12 && standby.iter().all(told)
    })
    .await;
    shared(&[&a, &b], 12).await;
    let silver = |worker| entities.iter().filter(|of| holds(worker, Layer::Silver, of)).count();
    assert_eq!((silver(&a), silver(&b)), (12, 0), "an index would have to be made first");
    let shown = |value: u8| {
        let text = metrics.encode().unwrap();
        text.lines().any(|line| {
            line.starts_with("alluvium_standby_ready{") && line.ends_with(&format!(" {value}"))
        })
    };
    assert!(shown(0) && !shown(1));
    unfollowable(None);
    until("it has its share of silver too", || silver(&b) > 0).await;
    shared(&[&a, &b], 12).await;
    until("what it stands by for is ready", || shown(1) && !shown(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_is_started_again_gets_the_work_of_its_place() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 12);
    let a = world.join("a").await;
    let b = world.join("b").await;
    shared(&[&a, &b], entities.len()).await;
    let before = layers(&b);
    b.shutdown(PATIENCE).await;
    let (mut platform, _ledger) = world.worker("b").await;
    platform.settings.holder = "b in its next life".to_owned();
    let b = Box::pin(Runtime::start(platform, Triggers::Heeded)).await.unwrap();
    until("it has what it had", || layers(&b).is_superset(&before)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_stands_by_goes_on_by_the_metadata_that_hold() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    // Found in the source by an earlier run.
    let mut spec = world.entities.pop().unwrap();
    let stored = std::slice::from_ref(&spec);
    world.ledger.store_metadata(&world.systems, stored, SystemClock.now()).await.unwrap();
    let (_a, _b) = tokio::join!(world.join("a"), world.join("b"));
    let followed_with = |columns| {
        world.lake.with("shop.orders", Layer::Silver, |silver| {
            let mut followed = silver.opened.iter().filter(|opening| opening.owner.is_none());
            followed.any(|opening| opening.spec.columns.len() == columns)
        })
    };
    until("one of them stands by", || followed_with(1)).await;
    spec.columns.push(Column::new("price", ColumnType::Long));
    let stored = std::slice::from_ref(&spec);
    world.ledger.store_metadata(&world.systems, stored, SystemClock.now()).await.unwrap();
    until("it goes by what is known now", || followed_with(2)).await;
}

/// Whether a worker has told that a layer found no room.
fn is_full(worker: &RuntimeHandle, entity: &EntityId) -> bool {
    let status = worker.status();
    let entity = status.entities.iter().find(|status| status.entity == *entity).unwrap();
    let errors = entity.layers.iter().filter_map(|layer| layer.state.error.as_deref());
    errors.into_iter().any(|error| error.contains("no room"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_layer_for_which_one_place_has_no_room_goes_on_in_another() {
    for layer in [Layer::Bronze, Layer::Silver] {
        let mut world = World::new().await;
        world.system("shop", &["orders"]);
        let orders = id("shop.orders");
        let (a, b) = tokio::join!(world.join("a"), world.join("b"));
        until("both know of each other", || {
            [&a, &b].iter().all(|worker| worker.status().worker.unwrap().workers.len() == 2)
        })
        .await;
        let full = StageError::Full("the disk".to_owned());
        world.lake.fault("shop.orders", layer, Fault::Fail(full));
        let end = publish(&a, &orders, 1..=3).await;
        a.wait_applied(&orders, end, |_| ()).await.unwrap();
        let is_full = [&a, &b].map(|worker| is_full(worker, &orders));
        assert!(is_full[0] != is_full[1], "one of them: {is_full:?}");
        let other = if is_full[0] { &b } else { &a };
        assert!(holds(other, layer, &orders));
        assert!(world.ledger.stops().await.unwrap().is_empty(), "nobody need act");
        world.lake.assert_holds("shop.orders", 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_no_other_place_has_room_either_a_layer_stops_until_one_comes() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let orders = id("shop.orders");
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let full = StageError::Full("the disk".to_owned());
    world.lake.fault("shop.orders", Layer::Silver, Fault::Fail(full));
    let end = publish(&a, &orders, 1..=3).await;
    let error = a.wait_applied(&orders, end, |_| ()).await.unwrap_err();
    let stopped = matches!(error, RuntimeError::LayerStopped { layer: Layer::Silver, .. });
    assert!(stopped && error.to_string().contains("disk space"), "{error}");
    assert_eq!(world.ledger.stops().await.unwrap().len(), 1);
    let b = world.join("b").await;
    until("it goes on with it", || holds(&b, Layer::Silver, &orders)).await;
    while !world.ledger.stops().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    b.wait_applied(&orders, end, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.orders", 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn how_far_a_layer_is_behind_is_told_by_who_has_it_and_by_no_other() {
    let mut world = World::new().await;
    let entities = entities(&mut world, 6);
    let mut workers = Vec::new();
    for name in ["a", "b"] {
        let (platform, _ledger) = world.worker(name).await;
        let metrics = Arc::clone(&platform.metrics);
        let worker = Box::pin(Runtime::start(platform, Triggers::Heeded)).await.unwrap();
        if workers.is_empty() {
            shared(&[&worker], 6).await;
            for entity in &entities {
                let end = publish(&worker, entity, 1..=3).await;
                worker.wait_applied(entity, end, |_| ()).await.unwrap();
            }
        }
        workers.push((worker, metrics));
    }
    let (a, b) = (&workers[0].0, &workers[1].0);
    until("each has a share", || [a, b].iter().all(|worker| !layers(worker).is_empty())).await;
    shared(&[a, b], 6).await;
    until("each tells of its own", || {
        workers.iter().all(|(worker, metrics)| {
            let text = metrics.encode().unwrap();
            let mut of_all = entities.iter().flat_map(|of| Layer::ALL.map(|layer| (of, layer)));
            of_all.all(|(of, layer)| {
                let labels = format!("entity=\"{}\",layer=\"{layer}\",system=\"shop\"", of.entity);
                let shown = text.contains(&format!("alluvium_lag_records{{{labels}}}"));
                shown == holds(worker, layer, of)
            })
        })
    })
    .await;
}
