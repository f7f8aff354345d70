//! Silver made anew from raw, beside its table: to be compared with it, or to take its place.

mod scratch;
mod shadow;
mod source;
mod swap;

pub use scratch::remove_leftovers;
pub use shadow::Shadow;
pub use swap::{Swap, Swapped};
