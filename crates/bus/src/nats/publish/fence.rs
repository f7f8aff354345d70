//! Of two pollers one advances, and nothing of the older one stands behind what the younger wrote.
//!
//! The cursor record on the bus is the fence. Before an owner's first messages it takes the record
//! over: the same page and cursor, its own token. From then on the older one is refused, even while
//! the younger one's page has no record yet; and what the older one sent before can only stand before
//! it, for it was placed by an end of the topic that was known before it looked at the fence.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, Cursor, CursorRecord};

use super::super::records::{self, CursorState, Put, Stored};
use super::super::topic::{Tip, Topic};
use super::super::{Shared, headers};

/// So long a record is tried while the server does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// The fence before one page.
pub(super) struct Fence<'a> {
    shared: &'a Shared,
    topic: &'a Arc<Topic>,
    /// What the page's record is to be.
    record: &'a CursorRecord,
    /// What stood there when it was looked at last.
    stored: Option<Stored<CursorState>>,
}

impl<'a> Fence<'a> {
    pub(super) fn new(shared: &'a Shared, topic: &'a Arc<Topic>, record: &'a CursorRecord) -> Self {
        Self { shared, topic, record, stored: None }
    }

    /// The page's number.
    pub(super) fn page(&self) -> u64 {
        self.record.page
    }

    /// Whether the page may be published behind `tip`, which must have been known before. If it
    /// `sends` messages, the record is the owner's then. [`BusError::Fenced`] if it may not.
    pub(super) async fn pass(&mut self, tip: &Tip, sends: bool) -> Result<(), BusError> {
        // A page that stands as a whole tells its own record.
        let told = tip.told.as_ref().filter(|told| told.record != *self.record);
        loop {
            self.look().await?;
            let stored = self.stored.as_ref().map(|stored| &stored.value);
            let stored = stored.filter(|stored| stored.epoch == self.topic.epoch);
            let is_ours = stored.is_some_and(|stored| stored.record.token == self.record.token);
            let stands = records::standing(stored.cloned(), told.cloned());
            self.may_follow(stands.as_ref())?;
            if !sends || is_ours || self.take_over(stands).await? {
                return Ok(());
            }
        }
    }

    async fn look(&mut self) -> Result<(), BusError> {
        let (js, names) = (&self.shared.js, &self.shared.names);
        self.stored = records::cursor(js, names, &self.topic.id).await?;
        if self.stored.as_ref().is_some_and(|stored| stored.value.epoch > self.topic.epoch) {
            self.shared.still(self.topic).await?;
        }
        Ok(())
    }

    fn may_follow(&self, stands: Option<&CursorState>) -> Result<(), BusError> {
        match stands.map(|state| &state.record) {
            Some(last) if !self.record.may_follow(Some(last)) => Err(BusError::Fenced {
                topic: self.topic.id.clone(),
                token: last.token.0,
                page: last.page,
            }),
            _ => Ok(()),
        }
    }

    /// Puts the owner's token on the record that stands; before any page that is page 0. `false` if
    /// somebody else wrote meanwhile.
    async fn take_over(&mut self, stands: Option<CursorState>) -> Result<bool, BusError> {
        let (epoch, token) = (self.topic.epoch, self.record.token);
        let value = match stands {
            Some(stands) => {
                CursorState { record: CursorRecord { token, ..stands.record }, ..stands }
            }
            None => {
                let record = CursorRecord { token, page: 0, cursor: Cursor::beginning() };
                CursorState { epoch, end: 0, record }
            }
        };
        match self.put(&value).await? {
            Put::Done(sequence) => {
                self.stored = Some(Stored { value, sequence });
                Ok(true)
            }
            Put::Conflict => Ok(false),
            Put::Lost(error) => Err(error),
        }
    }

    async fn put(&self, value: &CursorState) -> Result<Put, BusError> {
        let expected = self.stored.as_ref().map_or(0, |stored| stored.sequence);
        let subject = self.shared.names.cursor(&self.topic.id);
        Ok(records::put(&self.shared.js, subject, expected, records::encode(value)?).await)
    }

    /// Writes the page's record, after all its messages. `end` is where it ends.
    pub(super) async fn write(&mut self, end: u64) -> Result<(), BusError> {
        let state = self.state(end);
        let (clock, topic) = (&self.shared.clock, self.topic);
        let started = clock.instant();
        loop {
            match self.put(&state).await? {
                Put::Done(_) => return Ok(()),
                Put::Conflict => {}
                Put::Lost(error) if clock.since(started) > PATIENCE => return Err(error),
                Put::Lost(error) if !matches!(error, BusError::Unavailable(_)) => {
                    return Err(error);
                }
                Put::Lost(error) => {
                    tracing::debug!(topic = %topic.id, %error, "trying a cursor record again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            match self.look().await {
                Ok(()) => {}
                Err(BusError::Unavailable(error)) if clock.since(started) <= PATIENCE => {
                    tracing::debug!(topic = %topic.id, error, "asking for a cursor again");
                    continue;
                }
                Err(error) => return Err(error),
            }
            let stands = self.stored.as_ref().map(|stored| &stored.value);
            // The answer may have been lost, and not the record.
            if stands == Some(&state) {
                return Ok(());
            }
            self.may_follow(stands.filter(|stands| stands.epoch == topic.epoch))?;
        }
    }

    /// The page's record, if the page ends at `end`.
    fn state(&self, end: u64) -> CursorState {
        CursorState { epoch: self.topic.epoch, end, record: self.record.clone() }
    }

    /// The same as the page's last message tells it.
    pub(super) fn told(&self, end: u64) -> Result<String, BusError> {
        Ok(headers::as_header(&records::encode(&self.state(end))?))
    }
}
