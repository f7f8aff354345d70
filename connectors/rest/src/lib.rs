//! Reads REST APIs.
