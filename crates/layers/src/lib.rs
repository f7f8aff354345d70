//! Raw, bronze and silver: pure planning, thin applying; replay from raw; verify and rebuild.

mod bronze;
pub mod decode;
pub mod epoch;
mod ledger_note;
mod raw;
pub mod rebuild;
mod refused;
mod replay;
pub mod schema;
pub mod silver;
mod text;
mod upkeep;
pub mod verify;

pub use bronze::BronzeStage;
pub use raw::RawStage;
pub use refused::{held, refused, refusing};
pub use replay::RawReplay;
pub use silver::SilverStage;
