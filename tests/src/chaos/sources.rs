//! The sources that workers read from, and all that they were told: files to publish, an API, and a
//! table in a SQLite database.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::shapes::{FEED_PAGE, SHAPES, Shape, Way};
use super::stream::Stream;
use crate::Random;
use crate::http::{Answer, Server};

/// So many files may wait; then no more are made.
const WAITING: usize = 4;

/// A file that is to be published.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// The entity, `system.name`.
    pub entity: String,
    /// Where it is.
    pub path: PathBuf,
    /// So many records of the entity there are once it is published.
    pub total: u64,
    /// Whether somebody began to publish it, and did not tell of the end.
    pub begun: bool,
}

/// What an API shows, by path.
type Feed = Arc<Mutex<BTreeMap<String, Vec<Value>>>>;

/// All sources.
pub(crate) struct Sources {
    folder: PathBuf,
    streams: Vec<(&'static Shape, Stream, u64)>,
    feed: Feed,
    server: Server,
    /// The table that is read whole.
    pub table: Table,
    /// Files that are to be published, in this order.
    pub queue: VecDeque<File>,
    /// The lines that were given to be published, by entity.
    pub lines: BTreeMap<String, Vec<String>>,
    files: u64,
    /// So many records of an entity come at once, at most.
    most: u64,
}

impl Sources {
    /// Sources that have said nothing yet, with their files in `folder`. Of no entity come more than
    /// `most` records at once.
    pub(crate) fn new(folder: &Path, seed: u64, most: u64) -> Self {
        let feed = Feed::default();
        let shown = Arc::clone(&feed);
        let server = Server::answering(move |asked| page(&shown, asked));
        let streams = SHAPES.iter().filter(|shape| shape.way != Way::Whole).zip(1..);
        Self {
            folder: folder.to_owned(),
            // The first of each comes at once.
            streams: streams
                .map(|(s, n)| (s, Stream::new(s, seed ^ (n << 32)), s.at_once.min(most) * 100))
                .collect(),
            feed,
            server,
            table: Table::new(&folder.join("source.db"), seed),
            queue: VecDeque::new(),
            lines: BTreeMap::new(),
            files: 0,
            most,
        }
    }

    /// What to write into `systems.json` and `entities.json`.
    pub(crate) fn metadata(&self) -> (Value, Value) {
        let every = |seconds: u64| json!([{"type": "interval", "seconds": seconds}]);
        let systems = json!({"systems": [
            {"name": "push", "type": "push", "connection": {}},
            {
                "name": "feed", "type": "rest", "triggers": every(1),
                "connection": {"base_url": self.server.url(), "timeout_seconds": 5}
            },
            {
                "name": "shop", "type": "sqlite", "triggers": every(2),
                "connection": {"path": self.table.path}
            },
        ]});
        let entities: Vec<Value> = SHAPES.iter().map(Shape::metadata).collect();
        (systems, json!({"entities": entities}))
    }

    /// About so many records more happen in all sources together.
    pub(crate) fn happen(&mut self, records: u64) {
        for at in 0..self.streams.len() {
            let (shape, stream, owed) = &mut self.streams[at];
            let at_once = shape.at_once.min(self.most);
            *owed += records * shape.share;
            let held = shape.way == Way::Published && self.queue.len() >= WAITING;
            if *owed < at_once * 100 || held {
                continue;
            }
            *owed -= at_once * 100;
            let (shape, changes) = (*shape, stream.batch(at_once));
            self.tell(shape, changes);
        }
        self.table.change();
    }

    /// All that was held back comes.
    pub(crate) fn end(&mut self) {
        for at in 0..self.streams.len() {
            let (shape, stream, owed) = &mut self.streams[at];
            let mut changes = stream.batch(*owed / 100 + 1);
            changes.extend(stream.rest());
            let (shape, at_once) = (*shape, shape.at_once.min(self.most));
            let mut changes = changes.into_iter().peekable();
            while changes.peek().is_some() {
                let part = changes.by_ref().take(at_once as usize).collect();
                self.tell(shape, part);
            }
        }
    }

    fn tell(&mut self, shape: &Shape, changes: Vec<super::stream::Change>) {
        match shape.way {
            Way::Published => {
                let all = self.lines.entry(shape.id()).or_default();
                let mut text = String::new();
                for change in changes {
                    let line = change.line(all.len() as u64);
                    writeln!(text, "{line}").unwrap();
                    all.push(line);
                }
                self.files += 1;
                let path = self.folder.join(format!("{}-{}.ndjson", shape.name, self.files));
                std::fs::write(&path, text).unwrap();
                let (entity, total) = (shape.id(), all.len() as u64);
                self.queue.push_back(File { entity, path, total, begun: false });
            }
            Way::Polled => {
                let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
                let items = feed.entry(format!("/{}", shape.name)).or_default();
                for change in changes {
                    items.push(change.item(items.len() as u64 + 1));
                }
            }
            Way::Whole => {}
        }
    }

    /// All that an API has shown of an entity.
    pub(crate) fn shown(&self, shape: &Shape) -> Vec<Value> {
        self.with_shown(shape, <[Value]>::to_vec)
    }

    fn with_shown<R>(&self, shape: &Shape, of: impl FnOnce(&[Value]) -> R) -> R {
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: &[Value] = feed.get(&format!("/{}", shape.name)).map_or(&[], Vec::as_slice);
        of(shown)
    }

    /// So many records of an entity were told; none where it is read whole.
    pub(crate) fn told(&self, shape: &Shape) -> Option<u64> {
        match shape.way {
            Way::Published => Some(self.lines.get(&shape.id()).map_or(0, Vec::len) as u64),
            Way::Polled => Some(self.with_shown(shape, <[Value]>::len) as u64),
            Way::Whole => None,
        }
    }

    /// So many records of an entity should be in raw soon: what an API shows, and of files those that
    /// somebody has begun to publish. What is read whole comes again and again.
    pub(crate) fn due(&self, shape: &Shape) -> u64 {
        let begun = self.queue.iter().filter(|file| file.begun && file.entity == shape.id());
        match shape.way {
            Way::Published => begun.map(|file| file.total).max().unwrap_or_default(),
            Way::Polled | Way::Whole => self.told(shape).unwrap_or(u64::MAX),
        }
    }

    /// So many records were told by files and APIs.
    pub(crate) fn count(&self) -> u64 {
        SHAPES.iter().filter_map(|shape| self.told(shape)).sum()
    }
}

/// A page of what happened after `since`, and after the page whose token is sent.
fn page(feed: &Feed, asked: &str) -> Answer {
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    let number = |name: &str| {
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut found = values.filter(|(key, _)| *key == name).map(|(_, value)| value);
        found.next().and_then(|value| value.parse::<usize>().ok()).unwrap_or_default()
    };
    let after = number("since").max(number("token"));
    let feed = feed.lock().unwrap_or_else(PoisonError::into_inner);
    let items: &[Value] = feed.get(path).map_or(&[], Vec::as_slice);
    let end = after + FEED_PAGE as usize;
    let page = &items[after.min(items.len())..items.len().min(end)];
    let next = (end < items.len()).then(|| end.to_string());
    Answer::json(json!({"items": page, "next": next}))
}

/// Runs what it is told in a SQLite database: a JSON array of statements with their values a line,
/// answered by the rows of the last one.
const SQLITE: &str = r"
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
database.row_factory = sqlite3.Row
for line in sys.stdin:
    for sql, values in json.loads(line):
        rows = [dict(row) for row in database.execute(sql, values)]
    database.commit()
    print(json.dumps(rows), flush=True)
";

/// A table that is read whole.
pub(crate) struct Table {
    path: PathBuf,
    random: Random,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Table {
    fn new(path: &Path, seed: u64) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SQLITE])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let random = Random::new(seed ^ 0x7ab1e);
        let mut table = Self { path: path.to_owned(), random, child, answers };
        let make = "CREATE TABLE stock (id INTEGER PRIMARY KEY, region TEXT, city TEXT, \
                    amount REAL, status TEXT, note TEXT, seen INTEGER)";
        table.run(&json!([["PRAGMA journal_mode = WAL", []], [make, []]]));
        for _ in 0..40 {
            table.change();
        }
        table
    }

    /// A few rows come, alter and go, in one transaction.
    fn change(&mut self) {
        let random = &mut self.random;
        let mut statements = Vec::new();
        for _ in 0..6 {
            let id = random.below(150);
            if random.below(100) < 20 {
                statements.push(json!(["DELETE FROM stock WHERE id = ?", [id]]));
                continue;
            }
            let amount = (random.below(1_000) * 100 + 25) as f64 / 100.0;
            let status = if random.below(4) == 0 { Value::Null } else { json!("here") };
            let (city, seen) = (format!("city-{}", random.below(4)), random.below(3));
            let values = json!([id, "eu", city, amount, status, "", seen]);
            let insert = "INSERT OR REPLACE INTO stock VALUES (?, ?, ?, ?, ?, ?, ?)";
            statements.push(json!([insert, values]));
        }
        self.run(&Value::Array(statements));
    }

    /// All its rows now.
    pub(crate) fn rows(&mut self) -> Vec<Value> {
        let rows = self.run(&json!([["SELECT * FROM stock ORDER BY id", []]]));
        rows.as_array().unwrap().clone()
    }

    fn run(&mut self, statements: &Value) -> Value {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{statements}").unwrap();
        stdin.flush().unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
