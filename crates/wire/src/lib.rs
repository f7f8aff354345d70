//! The change's JSON and headers: envelope, Debezium, CloudEvents, plain rows.
