//! The supervisor: triggers, poll loop, layer loop, retry policy, leases, shutdown.
