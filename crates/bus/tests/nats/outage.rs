//! A server that stays away for long: whoever asks is told so in time, however many ask, and nobody
//! is left behind when it is back.

use std::time::Duration;

use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, Layer, Publisher, Span};
use futures::future::join_all;

use super::{PATIENCE, answered, connect, drain, limit, server, settings};
use crate::support::{OWNER, page, record, topic};

/// More than the client of NATS keeps for a server that is away.
const MANY: usize = 3000;
const SOON: Duration = Duration::from_millis(50);

/// The call ends, and says that the bus is away.
async fn is_told<T>(what: &str, call: impl Future<Output = Result<T, BusError>>) {
    let answer = tokio::time::timeout(PATIENCE, call).await.expect(what);
    assert!(matches!(answer, Err(BusError::Unavailable(_))), "{what}: {:?}", answer.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_long_outage_each_call_ends_and_all_goes_on_when_the_server_is_back() {
    let mut server = server!();
    let (bus, id) = (connect(settings(&server)).await, topic());
    let two = page([vec![1], vec![2]]);
    let epoch = bus.publish(&id, two, Some(record(1))).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&id, Layer::Raw, OWNER).await.unwrap();
    assert_eq!(drain(&mut raw).await.len(), 2);
    tokio::task::block_in_place(|| server.server.kill());
    let asked = join_all((0..MANY).map(|_| bus.end(&id)));
    let answers = tokio::time::timeout(PATIENCE, asked).await.expect("each ends");
    for answer in answers {
        assert!(matches!(answer, Err(BusError::Unavailable(_))), "{answer:?}");
    }
    // By now it is known, so that nothing more is kept to be sent when the server is back.
    let away = bus.end(&id).await.unwrap_err().to_string();
    assert!(away.contains("no connection"), "{away}");
    let landed = Span { epoch, after: 0, to: 2 };
    is_told("a cursor", bus.cursor(&id)).await;
    is_told("a subscription", bus.subscribe(&"shop.other".parse().unwrap(), Layer::Raw, OWNER))
        .await;
    is_told("an audit event", bus.audit("batch/1", "shop.orders", b"{}".to_vec())).await;
    is_told("a commit", raw.commit(&landed)).await;
    is_told("a fetch", raw.fetch(limit(SOON))).await;
    is_told("a page", bus.publish(&id, page([vec![3]]), Some(record(2)))).await;
    tokio::task::block_in_place(|| server.server.resume());
    let again = async || bus.publish(&id, page([vec![3]]), Some(record(2))).await;
    assert_eq!(answered(again).await.unwrap().span, Span { epoch, after: 2, to: 3 });
    answered(async || raw.commit(&landed).await).await.unwrap();
    let next = answered(async || match raw.fetch(limit(SOON)).await {
        Ok(delivery) if delivery.is_empty() => Err(BusError::Unavailable("nothing".to_owned())),
        fetched => fetched,
    });
    assert_eq!(next.await.unwrap().messages[0].payload.as_ref(), [3]);
    assert_eq!(bus.cursor(&id).await.unwrap(), Some(record(2)));
}
