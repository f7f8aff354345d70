//! `kill -9` at random moments, for real: a child process publishes and says what was
//! acknowledged, the parent kills it, opens the folder and looks.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_model::port::Subscribe;
use alluvium_model::{EntityId, FetchLimit, Layer, Position, Publisher, Span, SystemClock};

use crate::support::{OWNER, open, page, record, topic};
use alluvium_bus::testkit::noise;

const FOLDER: &str = "ALLUVIUM_TEST_BUS_FOLDER";
pub(crate) const MESSAGES: u64 = 3;
/// A message is longer on the disk.
pub(crate) const MESSAGE_BYTES: usize = 60_000;

fn payload(page: u64, message: u64) -> Vec<u8> {
    let mut bytes = format!("{page} {message} ").into_bytes();
    bytes.extend(noise(page * MESSAGES + message, MESSAGE_BYTES));
    bytes
}

fn pushed() -> EntityId {
    "shop.pushed".parse().unwrap()
}

/// The child: says `pid NUMBER`, publishes until it is killed, and prints `ack PAGE OFFSET` after
/// each page. Beside it a second publisher pushes small messages, and raw commits, so that
/// retention is at work too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test below runs it as a process of its own"]
async fn publish_until_killed() {
    #[allow(clippy::disallowed_methods, reason = "the parent test says where to write")]
    let Ok(folder) = std::env::var(FOLDER) else { return };
    writeln!(std::io::stdout(), "pid {}", std::process::id()).unwrap();
    let settings = BusSettings { retention_bytes: 24 << 20, ..BusSettings::default() };
    let bus = EmbeddedBus::open(Path::new(&folder), settings, Arc::new(SystemClock)).unwrap();
    let beside = Arc::clone(&bus);
    tokio::spawn(async move {
        loop {
            beside.publish(&pushed(), page([vec![b'x'; 50]]), None).await.unwrap();
        }
    });
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let mut number = bus.cursor(&topic()).await.unwrap().map_or(1, |c| c.page + 1);
    loop {
        let messages = page((0..MESSAGES).map(|m| payload(number, m)));
        let span = bus.publish(&topic(), messages, Some(record(number))).await.unwrap().span;
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {number} {}", span.to).unwrap();
        out.flush().unwrap();
        drop(out);
        raw.commit(&Span { after: 0, ..span }).await.unwrap();
        number += 1;
    }
}

pub(crate) fn child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::publish_until_killed", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder);
    command
}

fn start(folder: &Path) -> Child {
    child(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Lets the child publish for `moment` after its first acknowledgement, kills it, and returns the
/// last page and offset that it said were acknowledged.
fn run_and_kill(folder: &Path, moment: Duration) -> (u64, u64) {
    let mut child = start(folder);
    let out = BufReader::new(child.stdout.take().unwrap());
    let (first, first_seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = None;
        for line in out.lines().map_while(Result::ok) {
            let Some((_, ack)) = line.split_once("ack ") else { continue };
            let Some((page, offset)) = ack.split_once(' ') else { continue };
            let (Ok(page), Ok(offset)) = (page.parse(), offset.parse()) else { continue };
            if last.replace((page, offset)).is_none() {
                first.send(()).unwrap();
            }
        }
        last.unwrap()
    });
    first_seen.recv_timeout(Duration::from_secs(60)).expect("the child publishes");
    std::thread::sleep(moment);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Reads everything that is there, and checks it against what the child must have written.
async fn check(folder: &Path, acknowledged: (u64, u64)) -> u64 {
    let bus = open(folder);
    let (epoch, end) = bus.end(&topic()).await.unwrap();
    let last = bus.cursor(&topic()).await.unwrap().unwrap().page;
    assert!(last == acknowledged.0 || last == acknowledged.0 + 1, "{last} {acknowledged:?}");
    assert!(end >= acknowledged.1);
    assert_eq!(end, last * MESSAGES, "the cursor and the messages are of the same page");
    let stats = bus.topic_stats();
    let first_after = stats.iter().find(|t| t.topic == topic()).unwrap().first_after;
    let mut subscriber = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    subscriber.seek(&Position { epoch, offset: first_after, index: 0 }).await.unwrap();
    let mut at = first_after;
    while at < end {
        let delivery = subscriber.fetch(FetchLimit::default()).await.unwrap();
        assert_eq!(delivery.span.after, at);
        for message in delivery.messages {
            assert_eq!(message.payload, payload(at / MESSAGES + 1, at % MESSAGES), "offset {at}");
            at += 1;
        }
    }
    assert_eq!(at, end);
    let beside = bus.end(&pushed()).await.unwrap().1;
    assert_eq!(crate::support::read_all(&bus, &pushed()).await.len() as u64, beside);
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_ten_kills_at_random_moments() {
    let folder = tempfile::tempdir().unwrap();
    let mut end = 0;
    for round in 0..10u64 {
        let moment = Duration::from_micros(u64::from(std::process::id()) * 7919 % 97 * 1000)
            + Duration::from_millis(37 * round);
        let path = folder.path().to_owned();
        let run = tokio::task::spawn_blocking(move || run_and_kill(&path, moment));
        let acknowledged = run.await.unwrap();
        assert!(acknowledged.1 > end, "the child went on where its predecessor was killed");
        end = check(folder.path(), acknowledged).await;
    }
}
