//! The change's JSON and headers: envelope, Debezium, CloudEvents, plain rows.
//!
//! A message carries one record a line. [`encode_page`] writes the records of a connector's page,
//! [`encode_lines`] takes lines as they were received, and a [`Decoder`], chosen by the message's
//! headers, reads a line again, borrowing everything from it. `docs/wire-format.md` describes the
//! format for people; `tests/golden` freezes it.

pub mod decode;
pub mod encode;
mod envelope;
pub mod error;
pub mod headers;
pub mod id;
mod known;
mod left_out;
pub mod lines;
mod mapped;
pub mod mapping;
mod nest;
mod parts;
pub mod path;
mod pick;
pub mod raw;
mod scan;
mod unsent;

pub use decode::{ChangeView, Decoder, FOREIGN_SNAPSHOT, Line};
pub use encode::{MESSAGE_BYTES, encode_page};
pub use error::{Malformed, MappingError, PathError, WireError};
pub use headers::PublishContext;
pub use id::{change_id, delivered_id};
pub use left_out::left_out;
pub use lines::{LineFormat, encode_lines};
pub use mapping::Mapping;
pub use parts::Parts;
pub use path::Path;
pub use raw::{extract, for_each_member, string_value};
