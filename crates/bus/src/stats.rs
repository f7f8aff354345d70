//! What the bus tells about itself, for metrics and for people.

use std::time::Duration;

use alluvium_model::{EntityId, Epoch, Layer};

/// The bus as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusStats {
    /// Bytes of payload in the shared cache.
    pub cache_bytes: u64,
    /// Bytes on disk, journals included.
    pub disk_bytes: u64,
    /// Group commits (one fsync each) since the bus was opened.
    pub group_commits: u64,
    /// Pages that those commits made durable.
    pub pages: u64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStats {
    /// Whose topic it is.
    pub topic: EntityId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// The offset before the first message that is still there.
    pub first_after: u64,
    /// The offset of the last message; 0 if it never had one.
    pub end: u64,
    /// How many messages are there.
    pub messages: u64,
    /// How many bytes they take on disk.
    pub stored_bytes: u64,
    /// How many bytes of payload raw has not landed yet.
    pub unlanded_bytes: u64,
    /// When the last message was published, in microseconds since 1970.
    pub last_published_at_us: Option<i64>,
    /// How long it is until messages that raw has not landed may be lost, as things go: by the oldest
    /// of them, wherever raw is at work. `None` where nothing is lost by itself, for the bus then makes
    /// publishers wait; and where it is not known yet since when something waits.
    pub time_to_loss: Option<Duration>,
    /// The layers that have read from the topic, in the order of [`Layer::ALL`]. On a bus that
    /// processes share, a layer that no longer reads here stands where it was then, unless the bus
    /// tells more: it may stand still, or go on in another process.
    pub layers: Vec<LayerStats>,
}

/// How far one layer is behind on one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerStats {
    /// The layer.
    pub layer: Layer,
    /// The offset up to which it has committed.
    pub committed: u64,
    /// How many records wait for it on the bus.
    pub waiting_records: u64,
    /// When the oldest of them was published, in microseconds since 1970.
    pub waiting_since_us: Option<i64>,
}
