//! Publishing a page: in one piece, in order, and once.
//!
//! Each message says after which sequence it is to stand, so the server refuses it wherever
//! something is missing before it or somebody else was faster. Each message also says which slot of
//! which page it is, so that after a lost answer the last message of the stream tells how much of
//! the page is there. Many are in flight at once all the same, bounded by bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, EncodedMessage, EncodedPage, EntityId, Span};
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::headers::{self, Slot, Totals};
use super::records::{self, CursorState, Put, Stored};
use super::topic::{Tip, Topic};
use super::{Shared, retention};

/// So many bytes are in flight at most, and one message more.
const IN_FLIGHT_BYTES: usize = 8 << 20;
const IN_FLIGHT_MESSAGES: usize = 512;
/// So long a page is tried while the server does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);
/// How often a publisher that waits for room asks whether raw has landed in another process.
const ASK_FOR_ROOM: Duration = Duration::from_secs(1);
/// So many others may be faster until a publisher gives up for now.
const MOST_CONFLICTS: u32 = 32;

pub(super) async fn publish(
    shared: &Shared,
    id: &EntityId,
    page: EncodedPage,
    cursor: Option<CursorRecord>,
) -> Result<Published, BusError> {
    check_sizes(shared, &page, cursor.as_ref())?;
    let topic = shared.topic(id).await?;
    let _place = match page.messages.is_empty() {
        true => None,
        false => {
            let place = topic.queue.lock().await;
            wait_for_room(shared, &topic, page.bytes() as u64).await?;
            Some(place)
        }
    };
    let mut turn = topic.turn.lock().await;
    let stored = match &cursor {
        Some(cursor) => fenced(shared, &topic, cursor).await?,
        None => None,
    };
    // Whoever drops this future in the middle leaves a topic whose end must be asked for.
    let known = turn.take();
    if let (None, Some(cursor)) = (&known, &cursor) {
        // A page whose cursor record was not written any more tells it itself.
        let told = shared.told(&topic).await?.filter(|told| told.record != *cursor);
        if let Some(told) = told {
            may_follow(shared, &topic, cursor, &told).await?;
        }
    }
    let mut placing = Placing {
        shared,
        topic: &topic,
        page: page_id(shared, &page.messages, cursor.as_ref()),
        messages: &page.messages,
        cursor: cursor.as_ref(),
        place: Place::default(),
    };
    let tip = placing.all(known).await?;
    let span =
        Span { epoch: topic.epoch, after: tip.end - page.messages.len() as u64, to: tip.end };
    topic.saw_totals(tip.end, tip.totals);
    if let Some(cursor) = cursor {
        write_cursor(shared, &topic, cursor, tip.end, stored).await?;
    }
    *turn = Some(tip);
    Ok(Published { span })
}

fn check_sizes(
    shared: &Shared,
    page: &EncodedPage,
    cursor: Option<&CursorRecord>,
) -> Result<(), BusError> {
    let limit = shared.max_message_bytes();
    let cursor = cursor.map(records::encode).transpose()?.map(|bytes| bytes.len());
    let mut sizes = page.messages.iter().map(headers::size).chain(cursor);
    match sizes.find(|size| *size > limit) {
        Some(size) => Err(BusError::TooLarge { size, limit }),
        None => Ok(()),
    }
}

/// The record that stands on the bus, if `cursor` may follow it.
async fn fenced(
    shared: &Shared,
    topic: &Arc<Topic>,
    cursor: &CursorRecord,
) -> Result<Option<Stored<CursorState>>, BusError> {
    let stored = records::cursor(&shared.js, &shared.names, &topic.id).await?;
    if let Some(stored) = &stored {
        may_follow(shared, topic, cursor, &stored.value).await?;
    }
    Ok(stored)
}

async fn may_follow(
    shared: &Shared,
    topic: &Arc<Topic>,
    cursor: &CursorRecord,
    stands: &CursorState,
) -> Result<(), BusError> {
    if stands.epoch > topic.epoch {
        shared.still(topic).await?;
    }
    let last = &stands.record;
    if stands.epoch != topic.epoch || cursor.may_follow(Some(last)) {
        return Ok(());
    }
    Err(BusError::Fenced { topic: topic.id.clone(), token: last.token.0, page: last.page })
}

/// Waits until no more waits for raw than may. Raw may land in this process or in another one.
async fn wait_for_room(shared: &Shared, topic: &Topic, bytes: u64) -> Result<(), BusError> {
    let mut landed = topic.landed.subscribe();
    while !topic.has_room(bytes, shared.settings.max_unlanded_bytes) {
        let told = tokio::time::timeout(ASK_FOR_ROOM, landed.changed()).await;
        if told.is_err() {
            ask_what_landed(shared, topic).await?;
        }
    }
    Ok(())
}

/// Takes up how far raw has landed, as the server knows it.
pub(super) async fn ask_what_landed(shared: &Shared, topic: &Topic) -> Result<(), BusError> {
    let stored = records::landed(&shared.js, &shared.names, &topic.id).await?;
    if let Some(record) = stored.map(|s| s.value).filter(|l| l.epoch == topic.epoch) {
        topic.raw_landed(record.offset, record.totals());
    }
    Ok(())
}

/// The same for the same page of the same cursor, and for no other one. Pages without cursor may be
/// alike and are all meant.
fn page_id(shared: &Shared, messages: &[EncodedMessage], cursor: Option<&CursorRecord>) -> u128 {
    match cursor {
        Some(cursor) => id_of(messages, cursor.page),
        None => xxh3_128(shared.client.new_inbox().as_bytes()),
    }
}

/// Headers do not count: where a process was killed before it had written the cursor, the next one
/// publishes the page again, in a run of its own and at another time.
fn id_of(messages: &[EncodedMessage], page: u64) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&page.to_le_bytes());
    for message in messages {
        hash.update(&message.records.to_le_bytes());
        hash.update(&(message.payload.len() as u64).to_le_bytes());
        hash.update(&message.payload);
    }
    hash.digest128()
}

/// Where a page stands, as far as it does.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The offset after which it begins, and the totals there.
    base: u64,
    before: Totals,
    /// How many of its messages are there.
    done: usize,
}

struct Placing<'a> {
    shared: &'a Shared,
    topic: &'a Arc<Topic>,
    page: u128,
    messages: &'a [EncodedMessage],
    cursor: Option<&'a CursorRecord>,
    place: Place,
}

/// Why not all messages are there.
enum Stopped {
    /// Somebody else wrote, or the topic ends elsewhere than we thought.
    Conflict,
    /// The store is full.
    Full(BusError),
    /// The server refuses, and will refuse again.
    Refused(BusError),
    /// Nobody knows.
    Lost(BusError),
}

impl Placing<'_> {
    /// Publishes what is not there yet. Returns where the topic then ends.
    async fn all(&mut self, mut known: Option<Tip>) -> Result<Tip, BusError> {
        let clock = &self.shared.clock;
        let (mut answered, mut conflicts) = (clock.instant(), 0);
        loop {
            let stopped = match self.some(known.take()).await {
                Ok(tip) => return Ok(tip),
                Err(stopped) => stopped,
            };
            match stopped {
                Stopped::Conflict if conflicts < MOST_CONFLICTS => {
                    tokio::time::sleep(self.yielding(conflicts)).await;
                    conflicts += 1;
                    answered = clock.instant();
                }
                Stopped::Conflict => {
                    let what = "others publish on this topic all the time";
                    return Err(BusError::Unavailable(what.to_owned()));
                }
                Stopped::Full(error) => {
                    self.make_room(error).await?;
                    answered = clock.instant();
                }
                Stopped::Refused(error) => return Err(error),
                Stopped::Lost(error) if clock.since(answered) > PATIENCE => return Err(error),
                Stopped::Lost(error) => {
                    tracing::debug!(topic = %self.topic.id, %error, "trying a page again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// How long others go first: another time for each page, so that not all come back at once.
    fn yielding(&self, conflicts: u32) -> Duration {
        let part = self.page.rotate_left(conflicts * 7) as u64 % 4000;
        Duration::from_micros(part * u64::from(conflicts.min(8)))
    }

    async fn some(&mut self, known: Option<Tip>) -> Result<Tip, Stopped> {
        let tip = match known {
            Some(tip) => tip,
            None => self.ask().await?,
        };
        self.place = self.find(&tip);
        let sent = self.send().await;
        sent.map(|()| self.tip(&tip))
    }

    /// Where the topic ends, as the server says.
    async fn ask(&self) -> Result<Tip, Stopped> {
        let topic = self.topic;
        let asked = async {
            let info = self.shared.still(topic).await?;
            let totals = topic.totals();
            self.shared.tip(&topic.stream, &topic.id, &info, totals).await
        };
        asked.await.map_err(|error| match error {
            BusError::Unavailable(_) => Stopped::Lost(error),
            other => Stopped::Refused(other),
        })
    }

    /// Where the page stands, or is to stand: an earlier attempt may have left its beginning as the
    /// last that the topic has. What raw has landed of it may be gone since.
    fn find(&self, tip: &Tip) -> Place {
        let fresh = Place { base: tip.end, before: tip.totals, done: 0 };
        let Place { base, done, .. } = self.place;
        if tip.last.is_none() && done > 0 && base + done as u64 == tip.end {
            return self.place;
        }
        let ours =
            tip.last.filter(|slot| slot.page == self.page && slot.base + slot.index + 1 == tip.end);
        let Some(slot) = ours else { return fresh };
        let Ok(done) = usize::try_from(slot.index + 1) else { return fresh };
        let Some(there) = self.messages.get(..done) else { return fresh };
        let written = there.iter().fold(Totals::default(), |sum, message| sum.with(message));
        Place { base: slot.base, before: tip.totals.since(written), done }
    }

    /// Where the topic ends once the whole page is there.
    fn tip(&self, known: &Tip) -> Tip {
        let Some(last) = self.messages.len().checked_sub(1) else { return *known };
        let Place { base, before, .. } = self.place;
        Tip {
            end: base + self.messages.len() as u64,
            totals: self.messages.iter().fold(before, |sum, message| sum.with(message)),
            last: Some(Slot { page: self.page, base, index: last as u64 }),
        }
    }

    /// Sends what is not there, and counts what becomes durable.
    async fn send(&mut self) -> Result<(), Stopped> {
        let Place { base, before, done } = self.place;
        let (there, rest) = self.messages.split_at(done);
        let mut totals = there.iter().fold(before, |sum, message| sum.with(message));
        let (mut flying, mut bytes) = (VecDeque::new(), 0);
        for (index, message) in (done as u64..).zip(rest) {
            totals = totals.with(message);
            let slot = Slot { page: self.page, base, index };
            // Else one that is on its way could stand where somebody else's has taken the place of
            // the one before it.
            let chained = index > done as u64;
            let cursor = match index + 1 == self.messages.len() as u64 {
                true => self.told(base, message)?,
                false => None,
            };
            let headers = headers::write(message, slot, totals, chained, cursor.as_deref());
            let size = headers::size(message);
            while bytes > 0
                && (bytes + size > IN_FLIGHT_BYTES || flying.len() >= IN_FLIGHT_MESSAGES)
            {
                bytes -= self.land(&mut flying).await?;
            }
            let (subject, payload) = (self.topic.subject.clone(), message.payload.clone());
            let sent = self.shared.js.publish_with_headers(subject, headers, payload).await;
            flying.push_back((sent.map_err(|e| stopped(&e))?, size));
            bytes += size;
        }
        while !flying.is_empty() {
            self.land(&mut flying).await?;
        }
        Ok(())
    }

    /// The cursor record as the page's last message tells it, if there is one and room for it.
    fn told(&self, base: u64, last: &EncodedMessage) -> Result<Option<String>, Stopped> {
        let Some(record) = self.cursor.cloned() else { return Ok(None) };
        let end = base + self.messages.len() as u64;
        let state = CursorState { epoch: self.topic.epoch, end, record };
        let told = headers::as_header(&records::encode(&state).map_err(Stopped::Refused)?);
        let fits =
            headers::size(last) + headers::size_of_cursor(&told) <= self.shared.max_message_bytes();
        Ok(fits.then_some(told))
    }

    /// Waits for the oldest acknowledgement. Returns the size of its message.
    async fn land(
        &mut self,
        flying: &mut VecDeque<(PublishAckFuture, usize)>,
    ) -> Result<usize, Stopped> {
        let Some((acknowledged, size)) = flying.pop_front() else { return Ok(0) };
        let acknowledged = acknowledged.await.map_err(|e| stopped(&e))?;
        let expected = self.place.base + self.place.done as u64 + 1;
        if acknowledged.sequence != expected || acknowledged.stream != self.topic.stream {
            return Err(Stopped::Conflict);
        }
        self.place.done += 1;
        Ok(size)
    }

    /// Lets go what raw has landed; where that is nothing, waits until it lands more. Where it has
    /// landed everything, others fill the store.
    async fn make_room(&self, error: BusError) -> Result<(), BusError> {
        let topic = self.topic;
        ask_what_landed(self.shared, topic).await?;
        let info = self.shared.still(topic).await?;
        if retention::let_go(self.shared, topic, &info).await? {
            return Ok(());
        }
        if topic.landed() >= info.state.last_sequence || info.config.max_bytes <= 0 {
            return Err(error);
        }
        let mut landed = topic.landed.subscribe();
        tracing::warn!(topic = %topic.id, "the topic's stream is full; waiting for raw");
        while tokio::time::timeout(ASK_FOR_ROOM, landed.changed()).await.is_err() {
            ask_what_landed(self.shared, topic).await?;
        }
        Ok(())
    }
}

fn stopped(error: &async_nats::jetstream::context::PublishError) -> Stopped {
    match error.kind() {
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
            Stopped::Conflict
        }
        PublishErrorKind::Other => match records::refusal(error) {
            full @ BusError::Full(_) => Stopped::Full(full),
            away @ BusError::Unavailable(_) => Stopped::Lost(away),
            other => Stopped::Refused(other),
        },
        _ => Stopped::Lost(records::refusal(error)),
    }
}

/// Writes the cursor record, after all messages of its page.
async fn write_cursor(
    shared: &Shared,
    topic: &Arc<Topic>,
    record: CursorRecord,
    end: u64,
    mut stored: Option<Stored<CursorState>>,
) -> Result<(), BusError> {
    let state = CursorState { epoch: topic.epoch, end, record };
    let bytes = records::encode(&state)?;
    let started = shared.clock.instant();
    loop {
        let expected = stored.as_ref().map_or(0, |stored| stored.sequence);
        let subject = shared.names.cursor(&topic.id);
        match records::put(&shared.js, subject, expected, bytes.clone()).await {
            Put::Done(_) => return Ok(()),
            Put::Conflict => {}
            Put::Lost(error) if shared.clock.since(started) > PATIENCE => return Err(error),
            Put::Lost(error) if !matches!(error, BusError::Unavailable(_)) => return Err(error),
            Put::Lost(error) => {
                tracing::debug!(topic = %topic.id, %error, "trying a cursor record again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        // The answer may have been lost, and not the record.
        match records::cursor(&shared.js, &shared.names, &topic.id).await {
            Ok(Some(found)) if found.value == state => return Ok(()),
            Ok(found) => {
                if let Some(found) = &found {
                    may_follow(shared, topic, &state.record, &found.value).await?;
                }
                stored = found;
            }
            Err(error) if shared.clock.since(started) > PATIENCE => return Err(error),
            Err(error) => tracing::debug!(topic = %topic.id, %error, "asking for a cursor again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::Headers;
    use bytes::Bytes;

    use super::*;

    fn message(bytes: usize) -> EncodedMessage {
        let payload = Bytes::from(vec![b'x'; bytes]);
        EncodedMessage { headers: Headers::default(), payload, records: 2 }
    }

    #[test]
    fn a_page_is_known_by_its_place_and_its_records_whichever_run_publishes_it() {
        let page = |run: &str| {
            let headers = Headers([("run".to_owned(), run.to_owned())].into());
            [3, 4].map(|bytes| EncodedMessage { headers: headers.clone(), ..message(bytes) })
        };
        assert_eq!(id_of(&page("1"), 7), id_of(&page("2"), 7));
        assert_ne!(id_of(&page("1"), 7), id_of(&page("1"), 8));
        assert_ne!(id_of(&page("1"), 7), id_of(&page("1")[..1], 7));
        assert_ne!(id_of(&page("1"), 7), id_of(&[message(7)], 7));
    }

    #[test]
    fn totals_grow_by_records_and_payload() {
        let messages = [message(3), message(4)];
        let sum = messages.iter().fold(Totals { records: 1, bytes: 10 }, |sum, m| sum.with(m));
        assert_eq!(sum, Totals { records: 5, bytes: 17 });
        assert_eq!(sum.since(Totals { records: 2, bytes: 100 }), Totals { records: 3, bytes: 0 });
    }
}
