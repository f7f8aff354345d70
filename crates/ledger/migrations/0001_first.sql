-- Times are RFC 3339 text in UTC with microseconds, of one width, so that they sort as text.
-- Checksums are 16 hexadecimal digits. docs/ledger.md explains the columns.

CREATE TABLE system_run (
    run_id TEXT PRIMARY KEY,
    system TEXT NOT NULL,
    "trigger" TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    traceparent TEXT,
    entities_succeeded INTEGER NOT NULL DEFAULT 0,
    entities_failed INTEGER NOT NULL DEFAULT 0,
    entities_skipped INTEGER NOT NULL DEFAULT 0,
    polled INTEGER NOT NULL DEFAULT 0,
    published INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX system_run_by_system ON system_run (system, run_id);
CREATE INDEX system_run_open ON system_run (status) WHERE status = 'running';

CREATE TABLE system_layer_run (
    run_id TEXT NOT NULL REFERENCES system_run (run_id) ON DELETE CASCADE,
    layer TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    batches INTEGER NOT NULL DEFAULT 0,
    records INTEGER NOT NULL DEFAULT 0,
    inserted INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    control INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    rows_opened INTEGER NOT NULL DEFAULT 0,
    rows_closed INTEGER NOT NULL DEFAULT 0,
    rows_rewritten INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE entity_layer_run (
    run_id TEXT NOT NULL,
    layer TEXT NOT NULL,
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    batches INTEGER NOT NULL DEFAULT 0,
    records INTEGER NOT NULL DEFAULT 0,
    inserted INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    control INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    rows_opened INTEGER NOT NULL DEFAULT 0,
    rows_closed INTEGER NOT NULL DEFAULT 0,
    rows_rewritten INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, layer, system, entity),
    FOREIGN KEY (run_id, layer) REFERENCES system_layer_run (run_id, layer) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE batch (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id TEXT NOT NULL,
    layer TEXT NOT NULL,
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    after_offset INTEGER NOT NULL,
    to_offset INTEGER NOT NULL,
    run_id TEXT,
    applied_at TEXT NOT NULL,
    published_at TEXT,
    from_lake INTEGER NOT NULL DEFAULT 0,
    table_version INTEGER,
    checksum TEXT NOT NULL,
    total_checksum TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    inserted INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    control INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    rows_opened INTEGER NOT NULL DEFAULT 0,
    rows_closed INTEGER NOT NULL DEFAULT 0,
    rows_rewritten INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    total_records INTEGER NOT NULL DEFAULT 0,
    total_inserted INTEGER NOT NULL DEFAULT 0,
    total_updated INTEGER NOT NULL DEFAULT 0,
    total_deleted INTEGER NOT NULL DEFAULT 0,
    total_unchanged INTEGER NOT NULL DEFAULT 0,
    total_duplicate INTEGER NOT NULL DEFAULT 0,
    total_stale INTEGER NOT NULL DEFAULT 0,
    total_control INTEGER NOT NULL DEFAULT 0,
    total_quarantined INTEGER NOT NULL DEFAULT 0,
    total_late INTEGER NOT NULL DEFAULT 0,
    UNIQUE (system, entity, layer, epoch, to_offset)
) STRICT;
CREATE INDEX batch_by_run ON batch (run_id);
CREATE INDEX batch_by_time ON batch (applied_at);

CREATE TABLE layer_total (
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    layer TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    to_offset INTEGER NOT NULL,
    batches INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    inserted INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    control INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (system, entity, layer, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    layer TEXT NOT NULL,
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    message_offset INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL,
    truncated INTEGER NOT NULL,
    size INTEGER NOT NULL,
    batch_id TEXT NOT NULL,
    run_id TEXT,
    quarantined_at TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open',
    resolved_at TEXT,
    UNIQUE (system, entity, layer, epoch, message_offset, record_index)
) STRICT;
CREATE INDEX quarantine_open ON quarantine (system, entity) WHERE status = 'open';

CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL,
    expires_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cursor (
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    token INTEGER NOT NULL,
    page INTEGER NOT NULL,
    cursor TEXT NOT NULL,
    noted_at TEXT NOT NULL,
    PRIMARY KEY (system, entity)
) STRICT, WITHOUT ROWID;

CREATE TABLE metadata_history (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    valid_from TEXT NOT NULL,
    valid_to TEXT
) STRICT;
CREATE UNIQUE INDEX metadata_current ON metadata_history (kind, name) WHERE valid_to IS NULL;
CREATE INDEX metadata_by_name ON metadata_history (kind, name, seq);

CREATE VIEW metadata AS
SELECT kind, name, spec, valid_from AS since FROM metadata_history WHERE valid_to IS NULL;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL,
    created_at TEXT NOT NULL,
    delivered_at TEXT
) STRICT;
CREATE INDEX outbox_pending ON outbox (seq) WHERE delivered_at IS NULL;
