//! The words of the house as types, and the ports between its rooms.
//!
//! Every other crate imports this one and this one imports none of them. Nothing here does I/O,
//! asks for the time on its own, or knows an async runtime.

pub mod change;
pub mod checksum;
pub mod clock;
pub mod cursor;
pub mod delivery;
pub mod epochs;
pub mod error;
pub mod ids;
pub mod metadata;
pub mod outcome;
pub mod ownership;
pub mod port;
pub mod position;
pub mod quantity;
pub mod role;
pub mod secret;
pub mod sequence;
pub mod upkeep;

pub use change::{Change, Control, Op, Record};
pub use checksum::Checksum;
pub use clock::{Clock, SystemClock};
pub use cursor::{Cursor, CursorRecord, FencingToken};
pub use delivery::{Delivery, EncodedMessage, EncodedPage, FetchLimit, Headers, Message};
pub use epochs::{Epochs, Succession};
pub use error::Remedy;
pub use ids::{BatchId, EntityId, EntityName, Layer, RunId, SystemName};
pub use metadata::{Column, ColumnType, EntitySpec, SystemSpec};
pub use outcome::{Applied, Counts, Outcome, Quarantined, RowsWritten};
pub use ownership::Ownership;
pub use port::{
    BusError, Discovery, Page, Publisher, Source, SourceError, Stage, StageError, Subscriber,
};
pub use position::{Epoch, Position, Span};
pub use role::Role;
pub use secret::Secret;
pub use sequence::{Sequence, SequencePart, SequenceType};
pub use upkeep::{Maintained, Upkeep};
