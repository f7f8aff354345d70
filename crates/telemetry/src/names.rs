//! What metrics and labels are called. Base units; `docs/metrics.md` explains each.

/// Records that connectors gave.
pub const CHANGES_POLLED: &str = "alluvium_changes_polled_total";
/// Records that became durable on the bus.
pub const CHANGES_PUBLISHED: &str = "alluvium_changes_published_total";
/// Batches that became durable in a layer.
pub const BATCHES: &str = "alluvium_batches_total";
/// Records of those batches, by outcome.
pub const RECORDS: &str = "alluvium_records_total";
/// Records that came after a later one of their key.
pub const RECORDS_LATE: &str = "alluvium_records_late_total";
/// Rows that layers wrote, by kind.
pub const ROWS_WRITTEN: &str = "alluvium_rows_written_total";
/// Bytes that layers wrote.
pub const BYTES_WRITTEN: &str = "alluvium_written_bytes_total";
/// Records on the bus that a layer has not applied.
pub const LAG_RECORDS: &str = "alluvium_lag_records";
/// How long the oldest of them has waited.
pub const LAG_SECONDS: &str = "alluvium_lag_seconds";
/// Whether a layer is at work in this process, where several share the work.
pub const LAYER_OWNED: &str = "alluvium_layer_owned";
/// Whether the process could go on at once with silver that another one writes.
pub const STANDBY_READY: &str = "alluvium_standby_ready";
/// How long a poll took.
pub const POLL_SECONDS: &str = "alluvium_poll_duration_seconds";
/// How long publishing a page took, to its durability.
pub const PUBLISH_SECONDS: &str = "alluvium_publish_duration_seconds";
/// How long applying a delivery took, to its durability.
pub const APPLY_SECONDS: &str = "alluvium_apply_duration_seconds";
/// How long the bus took to hear of a layer's progress.
pub const COMMIT_SECONDS: &str = "alluvium_commit_duration_seconds";
/// Polls that gave no page.
pub const POLL_ERRORS: &str = "alluvium_poll_errors_total";
/// Deliveries that a layer could not apply and tries again.
pub const APPLY_ERRORS: &str = "alluvium_apply_errors_total";
/// How long a step of upkeep took.
pub const MAINTENANCE_SECONDS: &str = "alluvium_maintenance_duration_seconds";
/// Steps of upkeep that failed and are tried again.
pub const MAINTENANCE_ERRORS: &str = "alluvium_maintenance_errors_total";
/// Compactions that were committed.
pub const MAINTENANCE_COMPACTIONS: &str = "alluvium_maintenance_compactions_total";
/// Compactions that were given up, because the table had changed meanwhile.
pub const MAINTENANCE_DROPPED: &str = "alluvium_maintenance_compactions_dropped_total";
/// Data files that upkeep read or wrote.
pub const MAINTENANCE_FILES: &str = "alluvium_maintenance_files_total";
/// Rows that upkeep moved to other files.
pub const MAINTENANCE_ROWS: &str = "alluvium_maintenance_rows_total";
/// Bytes that upkeep read or wrote.
pub const MAINTENANCE_BYTES: &str = "alluvium_maintenance_bytes_total";
/// Checkpoints of tables.
pub const MAINTENANCE_CHECKPOINTS: &str = "alluvium_maintenance_checkpoints_total";
/// Entries of key indexes that upkeep looked at.
pub const MAINTENANCE_ENTRIES: &str = "alluvium_maintenance_index_entries_total";
/// Objects that upkeep removed.
pub const MAINTENANCE_REMOVED: &str = "alluvium_maintenance_removed_objects_total";
/// Messages on the bus.
pub const BUS_MESSAGES: &str = "alluvium_bus_messages";
/// Bytes on the bus.
pub const BUS_BYTES: &str = "alluvium_bus_bytes";
/// How long it is until records that raw has not landed may be lost by limits of the bus.
pub const BUS_TIME_TO_LOSS: &str = "alluvium_bus_time_to_loss_seconds";
/// Records in quarantine that wait for a decision.
pub const QUARANTINE: &str = "alluvium_quarantine_records";
/// Runs that have ended, by status.
pub const RUNS: &str = "alluvium_runs_total";
/// Runs that are on.
pub const RUNS_ACTIVE: &str = "alluvium_runs_active";
/// Whether a system's last run succeeded.
pub const LAST_RUN_SUCCESS: &str = "alluvium_last_run_success";
/// When a system's last run ended.
pub const LAST_RUN_TIME: &str = "alluvium_last_run_timestamp_seconds";
/// How long runs took.
pub const RUN_SECONDS: &str = "alluvium_run_duration_seconds";
/// Which release runs. Always 1.
pub const BUILD_INFO: &str = "alluvium_build_info";

/// The label of the system's name.
pub const SYSTEM: &str = "system";
/// The label of the entity's name.
pub const ENTITY: &str = "entity";
/// The label of the layer.
pub const LAYER: &str = "layer";
/// The label of a record's outcome.
pub const OUTCOME: &str = "outcome";
/// The label of a run's status.
pub const STATUS: &str = "status";
/// The label of what kind of row was written.
pub const KIND: &str = "kind";
/// The label of whether something was read or written.
pub const DIRECTION: &str = "direction";
/// The label of the release.
pub const VERSION: &str = "version";
/// The label of the commit that the release was built from.
pub const REVISION: &str = "revision";
