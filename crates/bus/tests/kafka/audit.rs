//! Audit events on their topic.

use std::time::Duration;

use alluvium_bus::Bus;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::kafka::mock::Mock;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_stand_on_a_topic_of_their_own_in_their_order() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    for id in ["batch/1", "batch/2"] {
        let event = serde_json::json!({ "id": id, "type": "io.alluvium.batch.applied" });
        let event = event.to_string().into_bytes();
        assert!(Bus::audit(&*bus, id, "shop.orders", event).await.unwrap(), "it has a stream");
    }
    let reader: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.settings().bootstrap_servers)
        .set("group.id", "somebody")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("alluvium.audit", 0, Offset::Beginning).unwrap();
    reader.assign(&from).unwrap();
    for id in ["batch/1", "batch/2"] {
        let read = tokio::time::timeout(PATIENCE, reader.recv()).await.unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_slice(read.payload().unwrap()).unwrap();
        assert_eq!(event["id"], id);
        assert_eq!(read.key(), Some(b"shop.orders".as_slice()));
        let header = read.headers().unwrap().get(0);
        assert_eq!(header.key, "content-type");
        assert_eq!(header.value, Some(b"application/cloudevents+json".as_slice()));
    }
}
