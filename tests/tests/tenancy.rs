//! A bus that processes share is of one ledger: whoever comes with another one is told.

use alluvium_testkit::{NatsServer, free_port};
use alluvium_tests::http::get;
use alluvium_tests::platform::{QUIET, on_nats};
use alluvium_tests::{TestPlatform, Workload, until};

#[test]
fn a_bus_is_refused_to_another_ledger_until_those_of_the_first_are_silent_and_then_to_them() {
    let Some(server) = NatsServer::start() else { return };
    let (first, second) = (TestPlatform::shop(), TestPlatform::shop());
    let port = free_port();
    let http = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    first.write("alluvium.toml", &on_nats(&http, &server, "alluvium"));
    second.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    let mut running = first.spawn(&["run"]);
    until("readiness", 60, || get(port, "/readyz").filter(|(status, _)| *status == 200));

    let file = second.write("changes.ndjson", &Workload::new(61).inserts(10));
    second.publish(&file).ended(2).told(&["with another ledger", "`ledger.url`", "`prefix`"]);
    assert!(running.ended().is_none(), "who was there stays");

    running.signal("STOP");
    second.publish(&file).ok();
    running.signal("CONT");
    let ended = until("the end of who was taken over", 90, || running.ended());
    assert_eq!(ended.code(), Some(2), "{}", running.stderr());
    assert!(running.stderr().contains("with another ledger"), "{}", running.stderr());
    second.assert_sound();
}
