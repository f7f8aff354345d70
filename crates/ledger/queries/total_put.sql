INSERT INTO layer_total (
    system, entity, layer, epoch, to_offset, batches, checksum, updated_at, records, inserted,
    updated, deleted, unchanged, duplicate, stale, control, quarantined, late)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (system, entity, layer, epoch) DO UPDATE SET
    to_offset = excluded.to_offset, batches = excluded.batches, checksum = excluded.checksum,
    updated_at = excluded.updated_at,
    records = excluded.records, inserted = excluded.inserted, updated = excluded.updated,
    deleted = excluded.deleted, unchanged = excluded.unchanged, duplicate = excluded.duplicate,
    stale = excluded.stale, control = excluded.control, quarantined = excluded.quarantined, late
    = excluded.late
