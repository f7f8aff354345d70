//! All layers on topics whose offsets have gaps, as the ends of transactions leave them on brokers of
//! Kafka. The mock cluster writes none: marks stand in their place, between messages and behind the
//! last one, and no reader is given them.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use alluvium_testkit::{KafkaMock, Put};
use alluvium_tests::platform::QUIET;
use alluvium_tests::{TestPlatform, Workload};

use crate::lost_bus::assert_proved;
use crate::thread::{assert_same, versions};

const TOPICS: [&str; 3] = ["alluvium.audit", "alluvium.cursors", "alluvium.shop.customers"];
const MARK: [(&str, &str); 2] = [("alluvium-mark", "epoch"), ("alluvium-epoch", "1")];
/// Often enough for some to come behind each page before it is fetched.
const OFTEN: Duration = Duration::from_millis(1);

fn mark(cluster: &KafkaMock) {
    cluster.put(Put { topic: "alluvium.shop.customers", headers: &MARK, ..Put::default() });
}

#[test]
fn layers_land_and_are_proved_where_offsets_between_and_behind_messages_are_none() {
    let cluster = KafkaMock::with_topics(TOPICS);
    let platform = TestPlatform::shop();
    let servers = cluster.servers();
    let on_kafka = format!(
        "{QUIET}\n[bus]\ntype = \"kafka\"\n\n[bus.kafka]\nbootstrap_servers = {servers:?}\n"
    );
    platform.write("alluvium.toml", &on_kafka);
    let mut workload = Workload::new(61);
    // The topic begins with the mark of the bus itself.
    let mut files = workload.files(&platform, 500, 5, 300).into_iter();
    platform.publish(&files.next().unwrap()).ok();

    std::thread::scope(|scope| {
        let (going_on, ended) = channel::<()>();
        let cluster = &cluster;
        let marks = scope.spawn(move || {
            let mut count = 0_u64;
            while ended.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
                mark(cluster);
                count += 1;
            }
            count
        });
        for file in files {
            platform.publish(&file).ok();
        }
        drop(going_on);
        let marks = marks.join().unwrap();
        assert!(marks > 20, "hardly any gaps: {marks}");
    });
    mark(&cluster);
    assert_proved(&platform);

    let more = platform.write("more.ndjson", &workload.changes(300));
    platform.publish(&more).ok();
    assert_same(&versions(&platform), &workload.expected());
    for layer in ["raw", "bronze"] {
        let records = platform.number(&format!("SELECT count(*) FROM {layer}.shop.customers"));
        assert_eq!(records, workload.count(), "{layer} has each change once");
    }
    assert_proved(&platform);
}
