//! A case over the embedded bus: published batch by batch, fetched, landed, committed; what the
//! case delivers again is sought and fetched again.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_model::port::Subscribe;
use alluvium_model::{FencingToken, FetchLimit, Layer, Position, Publisher, RunId, SystemClock};
use alluvium_wire::{PublishContext, encode_page};

use super::arrival::{in_batches, published};
use super::case::Case;
use super::record::record;
use super::run::{apply, check, codes, stage};
use crate::platform::Platform;

/// Publishes all records of a case, each in a page of its own; silver takes them in the case's
/// batches.
pub(crate) async fn run(case: &Case) -> Result<(), String> {
    let platform = Platform::quick(case.entity());
    let folder = platform.lake_folder().with_file_name("bus");
    let clock = Arc::new(SystemClock);
    let bus = EmbeddedBus::open(&folder, BusSettings::default(), clock).unwrap();
    let order = published(case);
    for at in &order {
        let context = PublishContext {
            entity: platform.id(),
            run: Some(RunId("run-1".to_owned())),
            traceparent: None,
            delivery: format!("page-{at}"),
            ordinal: 0,
            now: "2026-11-21T08:00:00Z".parse().unwrap(),
        };
        let page = encode_page(&[record(case, *at)], &context).unwrap();
        bus.publish(&platform.id(), page, None).await.unwrap();
    }
    let (epoch, _) = bus.end(&platform.id()).await.unwrap();
    let mut subscriber =
        bus.subscribe(&platform.id(), Layer::Silver, FencingToken(1)).await.unwrap();
    let mut stage = stage(case, &platform);
    let mut rejected = Vec::new();
    for (after, to) in in_batches(case).remove(0).deliveries {
        let (after, to) = (after as u64, to as u64);
        subscriber.seek(&Position { epoch, offset: after, index: 0 }).await.unwrap();
        let limit =
            FetchLimit { records: to - after, bytes: 1 << 20, wait: Duration::from_secs(9) };
        let delivery = subscriber.fetch(limit).await.unwrap();
        assert_eq!((delivery.span.after, delivery.span.to), (after, to));
        let applied = apply(&mut stage, &delivery).await?;
        rejected.extend(codes(&applied));
        for batch in applied {
            subscriber.commit(&batch.span).await.unwrap();
        }
    }
    let outcome = check(case, &platform, order, rejected).await;
    bus.close().await;
    outcome
}
