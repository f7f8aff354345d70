//! Owners of a layer, where several processes share the work: who was one writes nothing more.

use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::table::OWNER;
use alluvium_lake::{Lake, Table, path, raw};
use alluvium_layers::{BronzeStage, RawStage, SilverStage};
use alluvium_model::clock::ManualClock;
use alluvium_model::{
    Clock, FencingToken, Layer, Ownership, Stage, StageError, SystemClock, Upkeep,
};

use crate::platform::{Platform, Topic, apply, people, person};

const HOUR: Duration = Duration::from_secs(3600);

/// An owner whose lease lasts for an hour of the clock.
fn owner(token: u64, clock: Arc<dyn Clock>) -> Ownership {
    let until = clock.instant() + HOUR;
    Ownership::new(FencingToken(token), clock, until)
}

/// The stage of a layer in the hands of an owner; silver with an index of its own.
fn stage(platform: &Platform, layer: Layer, owner: &Ownership) -> Box<dyn Stage> {
    let lake: Lake = platform.lake.held_by(owner.clone());
    match layer {
        Layer::Raw => Box::new(RawStage::new(lake, platform.id(), 1)),
        Layer::Bronze => Box::new(BronzeStage::new(lake, &platform.entity, "UTC").unwrap()),
        Layer::Silver => {
            let index = platform.index_of(owner.token().0);
            Box::new(SilverStage::new(lake, index, &platform.entity, "UTC").unwrap())
        }
    }
}

/// How often the layer was written: objects of raw, versions of a table.
async fn writes(platform: &Platform, layer: Layer) -> u64 {
    let id = platform.id();
    let place = match layer {
        Layer::Raw => return raw::list(&platform.lake, &id).await.unwrap().len() as u64,
        Layer::Bronze => path::bronze(&id),
        Layer::Silver => path::silver(&id),
    };
    let table = Table::open(&platform.lake, &place).await.unwrap().unwrap();
    u64::try_from(table.version()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_layer_over_fences_the_one_before_whatever_that_ones_clock_says() {
    for layer in Layer::ALL {
        let platform = Platform::new(people());
        let mut topic = Topic::of(&platform);
        topic.mapped(&[&person(10, "Ann", "calm")]);
        topic.mapped(&[&person(20, "Bob", "calm")]);
        topic.mapped(&[&person(30, "Cid", "calm")]);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (first, second) = (owner(7, clock.clone()), owner(8, clock));
        let mut before = stage(&platform, layer, &first);
        before.progress().await.unwrap();
        apply(&mut *before, &topic.delivery(0, 1)).await;

        let mut after = stage(&platform, layer, &second);
        assert_eq!(after.progress().await.unwrap().unwrap().offset, 1);
        if layer == Layer::Raw {
            // Raw's objects chain by name: the one that is there first stands.
            apply(&mut *after, &topic.delivery(1, 3)).await;
        }
        let written = writes(&platform, layer).await;
        let error = before.apply(&topic.delivery(1, 2)).await.unwrap_err();
        assert!(error.remedy().is_retry(), "{layer}: {error}");
        assert_eq!(writes(&platform, layer).await, written, "{layer}");
        if layer != Layer::Raw {
            let error = before.progress().await.unwrap_err();
            assert!(matches!(error, StageError::Fenced(_)), "{layer}: {error}");
            let error = before.maintain(Upkeep::All).await.unwrap_err();
            assert!(matches!(error, StageError::Fenced(_)), "{layer}: {error}");
            apply(&mut *after, &topic.delivery(1, 3)).await;
        }
        let written = writes(&platform, layer).await;
        assert_eq!(after.progress().await.unwrap().unwrap().offset, 3, "{layer}");
        assert_eq!(writes(&platform, layer).await, written, "{layer}: it owns it already");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_over_writes_nothing_even_where_nobody_has_taken_over() {
    for layer in Layer::ALL {
        let platform = Platform::new(people());
        let mut topic = Topic::of(&platform);
        topic.mapped(&[&person(10, "Ann", "calm")]);
        topic.mapped(&[&person(20, "Bob", "calm")]);
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let owner = owner(7, clock.clone());
        let mut stage = stage(&platform, layer, &owner);
        stage.progress().await.unwrap();
        apply(&mut *stage, &topic.delivery(0, 1)).await;
        let written = writes(&platform, layer).await;
        clock.advance(HOUR);
        let error = stage.apply(&topic.delivery(1, 2)).await.unwrap_err();
        assert!(matches!(error, StageError::Fenced(_)), "{layer}: {error}");
        assert_eq!(writes(&platform, layer).await, written, "{layer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_names_itself_once_and_the_table_stays_what_it_is() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    topic.mapped(&[&person(20, "Bea", "calm")]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for (token, to) in [(7, 1), (8, 2)] {
        let mut silver = stage(&platform, Layer::Silver, &owner(token, clock.clone()));
        silver.progress().await.unwrap();
        apply(&mut *silver, &topic.delivery(to - 1, to)).await;
        assert_eq!(platform.silver_table().await.txn(OWNER), i64::try_from(token).ok());
    }
    assert_eq!(platform.history(&["id", "name"]).await, ["1 Ann [10,20) u", "1 Bea [20,-) u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_does_not_linger_before_a_new_owner_has_landed_something() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    topic.mapped(&[&person(20, "Bob", "calm")]);
    let lake = platform.lake.held_by(owner(7, Arc::new(SystemClock)));
    let mut stage = RawStage::new(lake, platform.id(), 1 << 20);
    assert_eq!(stage.apply(&topic.delivery(0, 1)).await.unwrap().len(), 1);
    assert_eq!(stage.apply(&topic.delivery(1, 2)).await.unwrap(), [], "it lingers now");
}
