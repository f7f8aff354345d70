//! Processes that share a cluster: what one must learn of another, and what it must not keep.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{Bus, KafkaBus, KafkaSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, EncodedPage, FetchLimit, Layer, Position, Publisher, Span, SystemClock,
};
use rdkafka::ClientConfig;
use rdkafka::bindings::rd_kafka_resp_err_t as Answer;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaApiKey as Call;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::mock::Mock;
use crate::support::{OWNER, page, record, topic};

/// So long may pass until something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(90);
/// Within so long the bus has asked more than once how far raw is.
const ROUNDS: Duration = Duration::from_secs(12);

fn large() -> EncodedPage {
    page([vec![b'x'; 60 << 10]])
}

/// Publishes as much as may wait for raw; the end.
async fn fill(bus: &KafkaBus, settings: &KafkaSettings) -> Span {
    let mut last = bus.publish(&topic(), large(), None).await.unwrap().span;
    for _ in 1..settings.max_unlanded_bytes / (60 << 10) {
        last = bus.publish(&topic(), large(), None).await.unwrap().span;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_goes_on_after_raw_has_moved_to_another_process() {
    let mock = Mock::new();
    let (polls, lands) = (mock.connect().await, mock.connect().await);
    let mut raw = polls.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let first = polls.publish(&topic(), large(), None).await.unwrap().span;
    assert_eq!(raw.fetch(FetchLimit::default()).await.unwrap().span.to, first.to);
    raw.commit(&first).await.unwrap();
    drop(raw);

    let mut moved = lands.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let after = Position { epoch: first.epoch, offset: first.to, index: 0 };
    moved.seek(&after).await.unwrap();
    let last = fill(&polls, &mock.settings()).await;
    let waiting = tokio::spawn({
        let polls = Arc::clone(&polls);
        async move { polls.publish(&topic(), large(), None).await }
    });
    let mut at = first.to;
    while at < last.to {
        let delivery = moved.fetch(FetchLimit::default()).await.unwrap();
        moved.commit(&delivery.span).await.unwrap();
        at = delivery.span.to;
    }
    let published = tokio::time::timeout(PATIENCE, waiting).await.expect("raw has landed");
    published.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_is_told_where_nobody_can_say_how_far_raw_is() {
    let mock = Mock::new();
    let settings = KafkaSettings { patience: Duration::from_secs(10), ..mock.settings() };
    let bus = KafkaBus::connect(settings.clone(), Arc::new(SystemClock)).await.unwrap();
    fill(&bus, &settings).await;
    let entity = topic();
    let refused = tokio::time::timeout(PATIENCE, bus.publish(&entity, large(), None)).await;
    let refused = refused.expect("it does not wait for ever");
    assert!(
        matches!(&refused, Err(BusError::Unavailable(why))
            if why.contains("alluvium.cursors does not say how far alluvium.shop.orders has landed")),
        "{refused:?}"
    );
    bus.publish(&topic(), EncodedPage::default(), Some(record(1))).await.unwrap();
}

/// Raw's process died between landing and telling, its heir finds in the lake how far it is, and cannot
/// tell at first. No group can be asked or told anything all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_raw_is_is_told_by_its_heir_and_again_where_that_failed() {
    let mock = Mock::new();
    let (polls, lands) = (mock.connect().await, mock.connect().await);
    let last = fill(&polls, &mock.settings()).await;
    mock.with(|cluster| {
        let denied = Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
        for call in [Call::OffsetCommit, Call::OffsetFetch, Call::FindCoordinator] {
            cluster.request_errors(call, &[denied; 1000]);
        }
        // After this a client never works again.
        let fatal = Answer::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        cluster.request_errors(Call::InitProducerId, &[fatal]);
        let refused = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(Call::Produce, &[refused]);
    });
    let mut raw = lands.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let at = Position { epoch: last.epoch, offset: last.to, index: 0 };
    raw.seek(&at).await.unwrap();
    raw.commit(&Span { after: 0, ..last }).await.unwrap();
    let entity = topic();
    let published = tokio::time::timeout(PATIENCE, polls.publish(&entity, large(), None)).await;
    published.expect("raw has landed").unwrap();
}

/// As somebody does it with what Kafka brings along for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_was_set_for_raws_group_gives_nobody_room() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let last = fill(&bus, &mock.settings()).await;
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.settings().bootstrap_servers)
        .set("group.id", "alluvium.raw")
        .create()
        .unwrap();
    let set = tokio::task::spawn_blocking(move || {
        let (mut list, next) = (TopicPartitionList::new(), i64::try_from(last.to + 1).unwrap());
        let offset = Offset::Offset(next);
        list.add_partition_offset("alluvium.shop.orders", 0, offset).unwrap();
        group.commit(&list, CommitMode::Sync).unwrap();
        let found = group.committed_offsets(list, PATIENCE).unwrap();
        assert_eq!(found.find_partition("alluvium.shop.orders", 0).unwrap().offset(), offset);
    });
    set.await.unwrap();
    let entity = topic();
    let waited = tokio::time::timeout(ROUNDS, bus.publish(&entity, large(), None)).await;
    assert!(waited.is_err(), "it waits for raw: {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_nobody_reads_for_here_any_more_is_told_where_it_was() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let more = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let span = bus.publish(&topic(), large(), None).await.unwrap().span;
    silver.commit(&span).await.unwrap();
    let told = || {
        let layers = bus.topic_stats().remove(0).layers;
        layers.iter().map(|l| (l.layer, l.committed, l.waiting_records)).collect::<Vec<_>>()
    };
    drop(more);
    assert_eq!(told(), [(Layer::Silver, span.to, 0)], "one reader is still here");
    drop(silver);
    assert_eq!(told(), [(Layer::Silver, span.to, 0)]);
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    assert_eq!(told(), [(Layer::Silver, span.to, 1)], "it may stand still");
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let delivery = silver.fetch(FetchLimit::default()).await.unwrap();
    assert_eq!(told(), [(Layer::Silver, span.to, 1)], "it has not told more");
    silver.commit(&delivery.span).await.unwrap();
    assert_eq!(told()[0].2, 0, "it has come back");
}
