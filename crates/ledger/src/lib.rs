//! Runs, batches, counts, leases and quarantine: the SQL database.
