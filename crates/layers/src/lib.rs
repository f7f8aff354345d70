//! Raw, bronze and silver: pure planning, thin applying; replay from raw; verify.

mod bronze;
pub mod decode;
mod ledger_note;
mod raw;
mod replay;
pub mod schema;
pub mod silver;
pub mod verify;

pub use bronze::BronzeStage;
pub use raw::RawStage;
pub use replay::RawReplay;
pub use silver::SilverStage;
