//! What was compressed is read, whichever of Kafka's codecs it was compressed with.

use std::sync::Arc;

use alluvium_bus::{KafkaBus, KafkaSettings};
use alluvium_model::{Publisher, Secret, SystemClock};

use super::mishaps::read;
use crate::kafka::mock::Mock;
use crate::support::{page, record, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_codec_has_compressed_is_read() {
    let mock = Mock::new();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    // So much that it is smaller compressed: else it is sent as it is.
    let texts = codecs.map(|codec| codec.repeat(2_000));
    for (number, (codec, text)) in (1..).zip(codecs.iter().zip(&texts)) {
        let options = [("compression.type".to_owned(), Secret::new(*codec))].into();
        let settings = KafkaSettings { options, ..mock.settings() };
        let bus = KafkaBus::connect(settings, Arc::new(SystemClock)).await.unwrap();
        let page = page([text.clone().into_bytes()]);
        bus.publish(&topic(), page, Some(record(number))).await.unwrap();
    }
    let bus = mock.connect().await;
    assert_eq!(read(&bus).await, texts);
}
