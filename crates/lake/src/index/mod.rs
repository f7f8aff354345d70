//! The key index: where the versions of each key stand, and what is remembered beside them.
//!
//! It is a cache of the table and its side files. Lost, or made for another state of the table, it
//! is rebuilt from them; nothing is ever acknowledged because it stands here.

mod bytes;
mod deliveries;
mod entry;
mod error;
mod keys;
mod merge;
mod moves;
mod reflects;
mod row;
mod store;
mod sweep;
mod turn;
mod update;

pub use deliveries::Stretch;
pub use entry::{CurrentEntry, EventMeta, Hashes, HiddenEntry, VersionEntry};
pub use error::IndexError;
pub use fjall::Slice;
pub use keys::KeyEntries;
pub use moves::FileMove;
pub use reflects::{Reflects, continues};
pub use row::{Cells, RowCodec, RowCodecError};
pub use store::{IndexStore, KeyIndex, KeyWindow};
pub use sweep::{Sweep, Swept};
pub use turn::{Follower, Writer};
pub use update::IndexUpdate;
