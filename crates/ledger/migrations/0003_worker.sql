-- The processes that share the work, and what they ask of each other.
CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    told TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Up to where somebody waits for the layers of an entity.
CREATE TABLE wanted (
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    asked_at TEXT NOT NULL,
    PRIMARY KEY (system, entity)
) STRICT, WITHOUT ROWID;

-- Grows with every change of the metadata that hold.
CREATE TABLE metadata_revision (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO metadata_revision VALUES (1, 0);

-- Which worker a run is in; null where one process does everything.
ALTER TABLE system_run ADD COLUMN worker TEXT;
