//! Raw, bronze and silver: pure planning, thin applying; replay from raw; verify.
