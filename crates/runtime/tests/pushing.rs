//! Pages pushed by hand: whose turn it is.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger, SqlLedger};
use alluvium_model::{Cursor, EncodedPage, SystemClock};
use alluvium_runtime::testkit::{World, id};
use alluvium_runtime::{Platform, Runtime, RuntimeError, Triggers};

const WHILE: Duration = Duration::from_secs(600);

async fn world() -> World {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    world.settings.lease_ttl = Duration::from_millis(400);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_publisher_that_died_is_waited_for() {
    let world = world().await;
    let runtime = world.start().await;
    let name = LeaseName::poll(&id("shop.orders"));
    let lasts = Duration::from_secs(1);
    world.ledger.acquire_lease(&name, "the dead one", lasts).await.unwrap().unwrap();
    let mut push = runtime.push(&id("shop.orders")).await.unwrap();
    assert_eq!(push.resume().await.unwrap(), None);
    push.finish(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_publisher_that_lives_it_is_told_who_it_is_and_until_when_its_lease_lasts() {
    let world = world().await;
    let runtime = world.start().await;
    let name = LeaseName::poll(&id("shop.orders"));
    let token = world.ledger.acquire_lease(&name, "them", WHILE).await.unwrap().unwrap();
    let ledger = Arc::clone(&world.ledger);
    let keeper = tokio::spawn(async move {
        while ledger.renew_lease(&name, token, WHILE).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut push = runtime.push(&id("shop.orders")).await.unwrap();
    let error = push.resume().await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Held { holder, .. } if holder == "them"), "{error}");
    assert!(error.to_string().contains("its lease lasts until 2"), "{error}");
    keeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_the_lease_pushes_no_more() {
    let mut world = world().await;
    world.settings.lease_ttl = Duration::from_secs(8);
    let runtime = world.start().await;
    let mut push = runtime.push(&id("shop.orders")).await.unwrap();
    push.resume().await.unwrap();
    push.publish_at(EncodedPage::default(), Cursor::beginning()).await.unwrap();
    let (name, holder) = (LeaseName::poll(&id("shop.orders")), &world.settings.holder);
    world.ledger.acquire_lease(&name, holder, WHILE).await.unwrap().unwrap();
    // Nobody else has published anything: the bus does not refuse it.
    let refused = async {
        loop {
            let page = EncodedPage::default();
            if let Err(error) = push.publish_at(page, Cursor::beginning()).await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert!(matches!(error, RuntimeError::LeaseLost(_)), "{error}");
    push.finish(Some(error.to_string())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_away_is_told_as_that() {
    let world = world().await;
    let path = world.folder.path().join("ledger.db");
    let ledger = Arc::new(SqlLedger::open(&path, Arc::new(SystemClock)).await.unwrap());
    let platform = Platform { ledger: ledger.clone(), ..world.platform() };
    let runtime = Runtime::start(platform, Triggers::Ignored).await.unwrap();
    let mut push = runtime.push(&id("shop.orders")).await.unwrap();
    ledger.close().await;
    let error = push.resume().await.unwrap_err();
    assert!(matches!(error, RuntimeError::Ledger(_)), "{error}");
}
