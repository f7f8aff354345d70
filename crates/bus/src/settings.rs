//! What the embedded bus may take of disk and memory.

use std::time::Duration;

/// Limits of the embedded bus. All of them hold per topic but `cache_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusSettings {
    /// How many bytes on disk a topic keeps once raw has landed them. Older blocks go first.
    pub retention_bytes: u64,
    /// How long a block is kept once raw has landed it.
    pub retention_age: Duration,
    /// How many bytes of payload may wait for raw before a publisher must wait. A page that is
    /// larger is taken once nothing else waits.
    pub max_unlanded_bytes: u64,
    /// The largest message taken, payload and headers together, in bytes.
    pub max_message_bytes: usize,
    /// How many bytes of payload are kept in memory for the layers to share.
    pub cache_bytes: usize,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            retention_bytes: 1 << 30,
            retention_age: Duration::from_secs(24 * 60 * 60),
            max_unlanded_bytes: 256 << 20,
            max_message_bytes: 8 << 20,
            cache_bytes: 64 << 20,
        }
    }
}
