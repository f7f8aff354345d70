//! Reads SQLite databases.
