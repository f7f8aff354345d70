-- Layers that have stopped for good, until they are at work again.
CREATE TABLE layer_stop (
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    layer TEXT NOT NULL,
    stopped_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (system, entity, layer)
) STRICT, WITHOUT ROWID;
