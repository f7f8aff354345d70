//! The end-to-end package.
