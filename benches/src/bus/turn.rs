//! One turn of a bus: a file is published and read back, and then pages of one record are published
//! one after the other.

use std::path::Path;
use std::time::Duration;

use alluvium_bus::Bus;
use alluvium_model::{
    Clock, Cursor, CursorRecord, EncodedPage, EntityId, FencingToken, FetchLimit, Layer,
    Subscriber, SystemClock,
};
use anyhow::ensure;
use serde_json::json;

use super::place::Opened;
use crate::meter::{Cost, Meter, Usage};
use crate::ours::LIMIT;
use crate::pages::{PAGE_BYTES, Pages};

/// Nothing may come for so long before a reader counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);
const OWNER: FencingToken = FencingToken(1);
/// What the reader takes at once. It ends by what it has read, not by waiting in vain.
const FETCH: FetchLimit = FetchLimit { wait: Duration::from_secs(1), ..LIMIT };

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) file: &'a Path,
    pub(crate) topic: &'a EntityId,
    /// How many pages of one record are published.
    pub(crate) small: usize,
    /// Whether each page is read before the next one is published.
    pub(crate) page_by_page: bool,
}

/// What something took of us, and of the server where that is measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) ours: Cost,
    pub(crate) server: Option<Cost>,
}

/// How much went over the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) records: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What a turn found.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) load: Load,
    pub(crate) publish: Spent,
    pub(crate) read: Spent,
    /// How long each page of one record took until it was acknowledged.
    pub(crate) small: Vec<Duration>,
}

/// Measures one turn.
pub(crate) async fn take(opened: &Opened, work: Work<'_>) -> anyhow::Result<Turn> {
    let (bus, server): (&dyn Bus, _) = (&*opened.bus, opened.server());
    // Making the topic is not measured.
    bus.end(work.topic).await?;
    let mut source = Poller { bus, topic: work.topic, last: None };
    let mut reader = Reader { bus, topic: work.topic, subscriber: None, load: Load::default() };
    let (mut load, mut publish, mut read) = (Load::default(), Spent::default(), Spent::default());
    let mut watch = Watch::start(server.as_deref());
    for page in Pages::of(work.file, work.topic, PAGE_BYTES)? {
        let page = page?;
        load.add(page.records(), page.messages.len(), page.bytes());
        source.publish(page).await?;
        if work.page_by_page {
            publish += watch.lap();
            reader.up_to(load.records).await?;
            read += watch.lap();
        }
    }
    publish += watch.lap();
    reader.up_to(load.records).await?;
    read += watch.lap();
    ensure!(reader.load == load, "{load:?} were published, and {:?} read", reader.load);
    let mut small = Vec::with_capacity(work.small);
    for page in Pages::of(work.file, work.topic, 1)?.take(work.small) {
        let (page, started) = (page?, SystemClock.instant());
        source.publish(page).await?;
        small.push(SystemClock.since(started));
    }
    Ok(Turn { load, publish, read, small })
}

/// Publishes with a cursor record for each page, as a poll and `alluvium publish` do.
struct Poller<'a> {
    bus: &'a dyn Bus,
    topic: &'a EntityId,
    last: Option<CursorRecord>,
}

impl Poller<'_> {
    async fn publish(&mut self, page: EncodedPage) -> anyhow::Result<()> {
        let number = self.last.as_ref().map_or(1, |last| last.page + 1);
        let cursor = Cursor(json!({"page": number}));
        let record = CursorRecord::following(self.last.as_ref(), OWNER, cursor);
        self.bus.publish(self.topic, page, Some(record.clone())).await?;
        self.last = Some(record);
        Ok(())
    }
}

/// Reads as raw does. It subscribes when it is first to read, so that nothing is fetched ahead on the
/// publisher's time.
struct Reader<'a> {
    bus: &'a dyn Bus,
    topic: &'a EntityId,
    subscriber: Option<Box<dyn Subscriber>>,
    load: Load,
}

impl Reader<'_> {
    /// Until so many records have been read, and acknowledged.
    async fn up_to(&mut self, records: u64) -> anyhow::Result<()> {
        let subscriber = match &mut self.subscriber {
            Some(subscriber) => subscriber,
            none => none.insert(self.bus.subscribe(self.topic, Layer::Raw, OWNER).await?),
        };
        let mut last = SystemClock.instant();
        while self.load.records < records {
            let delivery = subscriber.fetch(FETCH).await?;
            if delivery.is_empty() {
                let read = self.load.records;
                ensure!(SystemClock.since(last) < PATIENCE, "nothing comes after {read} records");
                continue;
            }
            last = SystemClock.instant();
            self.load.add(delivery.records(), delivery.messages.len(), delivery.bytes());
            subscriber.commit(&delivery.span).await?;
        }
        Ok(())
    }
}

impl Load {
    fn add(&mut self, records: u64, messages: usize, bytes: usize) {
        self.records += records;
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.ours += other.ours;
        if let Some(other) = other.server {
            *self.server.get_or_insert_default() += other;
        }
    }
}

/// Measures this process and the server's, lap by lap.
struct Watch<'a> {
    server: Option<&'a str>,
    meter: Meter,
    before: Usage,
}

impl<'a> Watch<'a> {
    fn start(server: Option<&'a str>) -> Self {
        let before = server.map(Usage::of).unwrap_or_default();
        Self { server, meter: Meter::start(), before }
    }

    /// What was spent since the last lap; the next one begins.
    fn lap(&mut self) -> Spent {
        let ours = self.meter.stop();
        let server = self.server.map(|id| Usage::of(id).since(self.before, ours.wall));
        *self = Self::start(self.server);
        Spent { ours, server }
    }
}
