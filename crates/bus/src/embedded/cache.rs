//! The messages in memory, so that all layers of a process share one message and what was decoded
//! from it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use alluvium_model::Message;

/// Small messages weigh little payload but as much bookkeeping as large ones.
const MAX_MESSAGES: usize = 16_384;

/// A message's place: the topic's number and the offset.
type Key = (u32, u64);

/// Messages up to a number of bytes of payload; also finds those that somebody else still holds.
pub(super) struct Cache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    order: VecDeque<(Key, Arc<Message>)>,
    index: HashMap<Key, Weak<Message>>,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    pub(super) fn get(&self, topic: u32, offset: u64) -> Option<Arc<Message>> {
        self.lock().index.get(&(topic, offset)).and_then(Weak::upgrade)
    }

    /// Takes a message that was just published, if there is room. What is older will be read
    /// sooner, so it does not give way.
    pub(super) fn offer(&self, topic: u32, message: Message) {
        let mut kept = self.lock();
        if self.fits(&kept, &message) {
            kept.keep((topic, message.offset), Arc::new(message));
        }
    }

    /// Takes a message that was just read, dropping the oldest for it. If another reader was
    /// faster, its message is the one that all share.
    pub(super) fn share(&self, topic: u32, message: Message) -> Arc<Message> {
        let key = (topic, message.offset);
        let mut kept = self.lock();
        if let Some(known) = kept.index.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        while !self.fits(&kept, &message) && kept.drop_oldest() {}
        let message = Arc::new(message);
        if self.fits(&kept, &message) {
            kept.keep(key, Arc::clone(&message));
        } else {
            kept.index.insert(key, Arc::downgrade(&message));
            kept.prune();
        }
        message
    }

    /// All readers are past `offset`.
    pub(super) fn forget(&self, topic: u32, offset: u64) {
        let mut kept = self.lock();
        let mut freed = 0;
        kept.order.retain(|((of, at), message)| {
            let stays = *of != topic || *at > offset;
            if !stays {
                freed += message.payload.len();
            }
            stays
        });
        kept.bytes -= freed;
        kept.prune();
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn fits(&self, kept: &Kept, message: &Message) -> bool {
        kept.order.len() < MAX_MESSAGES && kept.bytes + message.payload.len() <= self.limit
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, key: Key, message: Arc<Message>) {
        self.bytes += message.payload.len();
        self.index.insert(key, Arc::downgrade(&message));
        self.order.push_back((key, message));
        self.prune();
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, message)) = self.order.pop_front() else { return false };
        self.bytes -= message.payload.len();
        true
    }

    fn prune(&mut self) {
        if self.index.len() > 2 * self.order.len() + 1024 {
            self.index.retain(|_, message| message.strong_count() > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::{EncodedMessage, Epoch, Headers};
    use bytes::Bytes;

    use super::*;

    fn message(offset: u64) -> Message {
        let payload = Bytes::from(vec![b'x'; 10]);
        let encoded = EncodedMessage { headers: Headers::default(), payload, records: 1 };
        Message::new(Epoch(1), offset, 0, encoded, None)
    }

    #[test]
    fn what_is_published_does_not_displace_what_is_read_sooner() {
        let cache = Cache::new(20);
        for offset in 1..=3 {
            cache.offer(0, message(offset));
        }
        assert!(cache.get(0, 1).is_some() && cache.get(0, 2).is_some());
        assert!(cache.get(0, 3).is_none());
        assert_eq!(cache.bytes(), 20);
    }

    #[test]
    fn what_is_read_displaces_the_oldest_but_is_found_while_somebody_holds_it() {
        let cache = Cache::new(20);
        let held = cache.share(0, message(1));
        for offset in 2..=3 {
            cache.share(0, message(offset));
        }
        assert_eq!(cache.bytes(), 20);
        assert!(Arc::ptr_eq(&held, &cache.get(0, 1).unwrap()));
        assert!(Arc::ptr_eq(&held, &cache.share(0, message(1))));
        drop(held);
        assert!(cache.get(0, 1).is_none());
    }

    #[test]
    fn what_all_readers_are_past_is_forgotten() {
        let cache = Cache::new(100);
        for offset in 1..=3 {
            cache.offer(0, message(offset));
            cache.offer(1, message(offset));
        }
        cache.forget(0, 2);
        assert!(
            cache.get(0, 2).is_none() && cache.get(0, 3).is_some() && cache.get(1, 1).is_some()
        );
        assert_eq!(cache.bytes(), 40);
    }

    #[test]
    fn a_message_larger_than_the_cache_is_still_shared() {
        let cache = Cache::new(5);
        let held = cache.share(0, message(1));
        assert!(Arc::ptr_eq(&held, &cache.get(0, 1).unwrap()));
        assert_eq!(cache.bytes(), 0);
    }
}
