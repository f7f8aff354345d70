//! The messages of a page come to stand behind each other, once, at the end of the topic. Many are in
//! flight at once all the same, bounded by bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, EncodedMessage, Span};
use alluvium_wire::headers::{DELIVERY, ORDINAL};
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::super::headers::{self, Slot, Stamp, Totals};
use super::super::topic::{Tip, Topic};
use super::super::{Shared, api, calls, records};
use super::fence::Fence;
use super::room;

/// So many bytes are in flight at most, and one message more.
const IN_FLIGHT_BYTES: usize = 8 << 20;
const IN_FLIGHT_MESSAGES: usize = 512;
/// So long a page is tried while the server does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);
/// So many others may be faster until a publisher gives up for now.
const MOST_CONFLICTS: u32 = 32;

/// Where a page stands, as far as it does.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The offset after which it begins, and the totals there.
    base: u64,
    before: Totals,
    /// How many of its messages are there.
    done: usize,
    /// When it is published.
    published_at_us: i64,
}

/// A page on its way.
pub(super) struct Placing<'a, 'f> {
    shared: &'a Shared,
    topic: &'a Arc<Topic>,
    /// The page's id.
    pub(super) page: u128,
    messages: &'a [EncodedMessage],
    fence: Option<&'a mut Fence<'f>>,
    place: Place,
    /// The offset after which it was sent by an attempt of which nobody knows what became.
    unsure: Option<u64>,
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

impl From<BusError> for Stopped {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Unavailable(_) => Self::Lost(error),
            other => Self::Refused(other),
        }
    }
}

impl From<PublishError> for Stopped {
    fn from(error: PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
                Self::Conflict
            }
            PublishErrorKind::Other => match records::refusal(&error) {
                full @ BusError::Full(_) => Self::Full(full),
                other => other.into(),
            },
            _ => Self::Lost(records::refusal(&error)),
        }
    }
}

impl<'a, 'f> Placing<'a, 'f> {
    pub(super) fn new(
        shared: &'a Shared,
        topic: &'a Arc<Topic>,
        messages: &'a [EncodedMessage],
        fence: Option<&'a mut Fence<'f>>,
    ) -> Self {
        let page = match fence.as_ref().map(|fence| fence.page()) {
            Some(number) => id_of(messages, &number.to_le_bytes()),
            None => delivered(messages)
                .unwrap_or_else(|| xxh3_128(shared.client.new_inbox().as_bytes())),
        };
        let (place, unsure) = (Place::default(), topic.begun_at(page));
        Self { shared, topic, page, messages, fence, place, unsure }
    }

    /// Publishes what is not there yet. Returns where the page stands, and where the topic then ends.
    pub(super) async fn all(&mut self, mut known: Option<Tip>) -> Result<(Span, Tip), BusError> {
        let clock = &self.shared.clock;
        let (mut answered, mut conflicts) = (clock.instant(), 0);
        loop {
            let stopped = match self.some(known.take()).await {
                Ok(tip) => {
                    let Place { base, .. } = self.place;
                    let to = base + self.messages.len() as u64;
                    return Ok((Span { epoch: self.topic.epoch, after: base, to }, tip));
                }
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
                    room::make(self.shared, self.topic, error).await?;
                    answered = clock.instant();
                }
                Stopped::Refused(error) => return Err(error),
                Stopped::Lost(error) if clock.since(answered) > PATIENCE => return Err(error),
                Stopped::Lost(error) => {
                    tracing::debug!(topic = %self.topic.id, %error, "trying a page again");
                    self.unsure = self.topic.begun_at(self.page);
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

    /// Sends what is not there behind the end of the topic, which is `known`, or asked for. Only then
    /// the fence is looked at: what somebody writes after that, the server finds in our place.
    async fn some(&mut self, known: Option<Tip>) -> Result<Tip, Stopped> {
        let tip = match known {
            Some(tip) => tip,
            None => self.shared.tip(self.topic).await?,
        };
        if let Some(fence) = &mut self.fence {
            fence.pass(&tip, !self.messages.is_empty()).await?;
        }
        self.place = self.find(&tip).await?;
        self.send().await?;
        Ok(self.tip(tip))
    }

    /// Where the page stands, or is to stand.
    async fn find(&self, tip: &Tip) -> Result<Place, Stopped> {
        if let Some(place) = self.at_the_end_of(tip) {
            return Ok(place);
        }
        if let Some(base) = self.unsure
            && self.stands_after(base, tip).await?
        {
            return Ok(Place { base, done: self.messages.len(), ..self.place });
        }
        let now_us = self.shared.clock.now().as_microsecond();
        let published_at_us = now_us.max(tip.published_at_us);
        Ok(Place { base: tip.end, before: tip.totals, done: 0, published_at_us })
    }

    /// An earlier attempt may have left the page's beginning as the last that the topic has. What raw
    /// has landed of it may be gone since.
    fn at_the_end_of(&self, tip: &Tip) -> Option<Place> {
        let Place { base, done, .. } = self.place;
        if tip.last.is_none() && done > 0 && base + done as u64 == tip.end {
            return Some(self.place);
        }
        let ours = |slot: &Slot| slot.page == self.page && slot.base + slot.index + 1 == tip.end;
        let slot = tip.last.filter(ours)?;
        let done = usize::try_from(slot.index + 1).ok()?;
        let there = self.messages.get(..done)?;
        let written = there.iter().fold(Totals::default(), |sum, message| sum.with(message));
        let before = tip.totals.since(written);
        Some(Place { base: slot.base, before, done, published_at_us: tip.published_at_us })
    }

    /// Whether an earlier attempt left the whole page after `base`, and others wrote behind it.
    async fn stands_after(&self, base: u64, tip: &Tip) -> Result<bool, Stopped> {
        let end = base + self.messages.len() as u64;
        if end == base || end >= tip.end {
            return Ok(false);
        }
        let last = Slot { page: self.page, base, index: end - base - 1 };
        let found = api::message(&self.shared.js, &self.topic.stream, end).await?;
        Ok(found.and_then(|message| headers::slot(&message.headers)) == Some(last))
    }

    /// Where the topic ends once the whole page is there.
    fn tip(&self, known: Tip) -> Tip {
        let Place { base, before, published_at_us, .. } = self.place;
        let end = base + self.messages.len() as u64;
        let Some(index) = (end - base).checked_sub(1).filter(|_| end >= known.end) else {
            return known;
        };
        Tip {
            end,
            message: end,
            totals: self.messages.iter().fold(before, |sum, message| sum.with(message)),
            published_at_us,
            last: Some(Slot { page: self.page, base, index }),
            told: None,
        }
    }

    /// Sends what is not there, and counts what becomes durable.
    async fn send(&mut self) -> Result<(), Stopped> {
        let Place { base, before, done, published_at_us } = self.place;
        let (there, rest) = self.messages.split_at(done);
        if !self.messages.is_empty() {
            self.topic.begin(self.page, base);
        }
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
            let stamp = Stamp { slot, totals, published_at_us };
            let headers = headers::write(message, &stamp, chained, cursor.as_deref());
            let size = headers::size(message);
            while bytes > 0
                && (bytes + size > IN_FLIGHT_BYTES || flying.len() >= IN_FLIGHT_MESSAGES)
            {
                bytes -= self.land(&mut flying).await?;
            }
            let (subject, payload) = (self.topic.subject.clone(), message.payload.clone());
            let sending = self.shared.js.publish_with_headers(subject, headers, payload);
            let sent = calls::within(&self.shared.client, sending).await??;
            flying.push_back((sent, size));
            bytes += size;
        }
        while !flying.is_empty() {
            self.land(&mut flying).await?;
        }
        Ok(())
    }

    /// The cursor record as the page's last message tells it, if there is one and room for it.
    fn told(&self, base: u64, last: &EncodedMessage) -> Result<Option<String>, Stopped> {
        let Some(fence) = &self.fence else { return Ok(None) };
        let told = fence.told(base + self.messages.len() as u64)?;
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
        let acknowledged = acknowledged.await?;
        let expected = self.place.base + self.place.done as u64 + 1;
        if acknowledged.sequence != expected || acknowledged.stream != self.topic.stream {
            return Err(Stopped::Conflict);
        }
        self.place.done += 1;
        Ok(size)
    }
}

/// The id of a page that was pushed, and not polled: the same for the same part of the same delivery,
/// and for no other one. `None` where no header tells the delivery: such pages may be alike and are
/// all meant.
fn delivered(messages: &[EncodedMessage]) -> Option<u128> {
    let headers = &messages.first()?.headers;
    let (delivery, ordinal) = (headers.get(DELIVERY)?, headers.get(ORDINAL).unwrap_or_default());
    Some(id_of(messages, format!("{ordinal}/{delivery}").as_bytes()))
}

/// The id of a page whose `place` among its topic's pages this is: the same for the same records in
/// the same place, and for no other ones. Headers do not count: where a process was killed before it
/// had written the cursor, the next one publishes the page again, in a run of its own and at another
/// time.
fn id_of(messages: &[EncodedMessage], place: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(place);
    for message in messages {
        hash.update(&message.records.to_le_bytes());
        hash.update(&(message.payload.len() as u64).to_le_bytes());
        hash.update(&message.payload);
    }
    hash.digest128()
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
        let id_of = |messages: &[EncodedMessage], page: u64| id_of(messages, &page.to_le_bytes());
        assert_eq!(id_of(&page("1"), 7), id_of(&page("2"), 7));
        assert_ne!(id_of(&page("1"), 7), id_of(&page("1"), 8));
        assert_ne!(id_of(&page("1"), 7), id_of(&page("1")[..1], 7));
        assert_ne!(id_of(&page("1"), 7), id_of(&[message(7)], 7));
    }

    #[test]
    fn a_page_that_is_pushed_is_known_by_its_delivery() {
        let page = |delivery: &str, ordinal: u32, time: &str| {
            let headers = Headers::default()
                .with(DELIVERY, delivery)
                .with(ORDINAL, ordinal.to_string())
                .with("ce_time", time);
            delivered(&[EncodedMessage { headers, ..message(3) }]).unwrap()
        };
        assert_eq!(page("file-1", 0, "now"), page("file-1", 0, "later"));
        assert_ne!(page("file-1", 0, "now"), page("file-1", 10, "now"), "another part of it");
        assert_ne!(page("file-1", 0, "now"), page("file-2", 0, "now"));
        assert_eq!(delivered(&[message(3)]), None, "nobody says what it was delivered in");
    }

    #[test]
    fn totals_grow_by_records_and_payload() {
        let messages = [message(3), message(4)];
        let sum = messages.iter().fold(Totals { records: 1, bytes: 10 }, |sum, m| sum.with(m));
        assert_eq!(sum, Totals { records: 5, bytes: 17 });
        assert_eq!(sum.since(Totals { records: 2, bytes: 100 }), Totals { records: 3, bytes: 0 });
    }
}
