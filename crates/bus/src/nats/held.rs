//! The messages that layers of this process hold, so that each is decoded once for all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use alluvium_model::Message;

/// From so many messages on, those that nobody holds any more are looked for and forgotten.
const MANY: usize = 4096;

/// Messages that somebody in this process holds, by their offsets.
#[derive(Default)]
pub(super) struct HeldMessages {
    known: BTreeMap<u64, Weak<Message>>,
    /// How many were held when it was last looked.
    held: usize,
}

impl HeldMessages {
    /// The message as it is held; or this one.
    pub(super) fn share(&mut self, message: Arc<Message>) -> Arc<Message> {
        if let Some(known) = self.get(message.offset) {
            return known;
        }
        self.insert(&message);
        message
    }

    fn get(&self, offset: u64) -> Option<Arc<Message>> {
        self.known.get(&offset).and_then(Weak::upgrade)
    }

    fn insert(&mut self, message: &Arc<Message>) {
        if self.known.len() >= MANY.max(2 * self.held) {
            self.known.retain(|_, message| message.strong_count() > 0);
            self.held = self.known.len();
        }
        self.known.insert(message.offset, Arc::downgrade(message));
    }
}
