//! Object paths, durable local store, raw objects, Delta commits, deletion vectors, key index.
