//! What stands on a NATS server, past the binary.

use std::collections::BTreeMap;
use std::process::Command;

use alluvium_testkit::NatsServer;
use serde_json::Value;

/// Gives the last message on a subject of `alluvium-state`, or puts another one there.
const STATE: &str = r#"
import base64, json, socket, sys
port, subject, wanted = int(sys.argv[1]), b"alluvium.state." + sys.argv[2].encode(), sys.argv[3:]
connection = socket.create_connection(("127.0.0.1", port))
lines = connection.makefile("rb")
lines.readline()
connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answers 1\r\n')
def ask(to, text):
    connection.sendall(b"PUB %s answers %d\r\n%s\r\n" % (to, len(text), text))
    while not lines.readline().startswith(b"MSG"):
        pass
    return json.loads(lines.readline())
if wanted:
    assert "seq" in ask(subject, wanted[0].encode())
else:
    last = json.dumps({"last_by_subj": subject.decode()}).encode()
    found = ask(b"$JS.API.STREAM.MSG.GET.alluvium-state", last)
    print(base64.b64decode(found["message"]["data"]).decode() if "message" in found else "null")
"#;

fn run(server: &NatsServer, args: &[&str]) -> String {
    let url = server.url();
    let port = url.rsplit(':').next().unwrap();
    let done = Command::new("python3").args(["-c", STATE, port]).args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What stands there, such as `move` or `cursor.shop.orders`; null where nothing does.
pub fn stands(server: &NatsServer, what: &str) -> Value {
    serde_json::from_str(&run(server, &[what])).unwrap()
}

/// Puts something else there.
pub fn put(server: &NatsServer, what: &str, value: &Value) {
    run(server, &[what, &value.to_string()]);
}

/// Where the topics end: the last sequence of each stream of changes.
pub fn ends(server: &NatsServer) -> BTreeMap<String, u64> {
    let told = server.monitor("/jsz?accounts=true&streams=true").unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let accounts = told["account_details"].as_array().into_iter().flatten();
    let streams = accounts.flat_map(|account| account["stream_detail"].as_array()).flatten();
    let end = |stream: &Value| {
        let name = stream["name"].as_str().unwrap().to_owned();
        name.contains("-changes-").then(|| (name, stream["state"]["last_seq"].as_u64().unwrap()))
    };
    streams.filter_map(end).collect()
}
