INSERT INTO entity_layer_run (run_id, layer, status, started_at, ended_at,
    batches, records, inserted, updated, deleted, unchanged, duplicate, stale, control, quarantined, late, rows_opened, rows_closed, rows_rewritten, bytes,
    system, entity)
SELECT $1, $2, CASE r.status WHEN 'running' THEN 'running' ELSE 'succeeded' END, $3,
    CASE r.status WHEN 'running' THEN NULL ELSE $3 END,
    $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20
FROM system_run r WHERE r.run_id = $1
ON CONFLICT (run_id, layer, system, entity) DO UPDATE SET
    ended_at = CASE WHEN entity_layer_run.ended_at IS NULL THEN NULL ELSE excluded.started_at END,
    batches = entity_layer_run.batches + excluded.batches,
    records = entity_layer_run.records + excluded.records,
    inserted = entity_layer_run.inserted + excluded.inserted,
    updated = entity_layer_run.updated + excluded.updated,
    deleted = entity_layer_run.deleted + excluded.deleted,
    unchanged = entity_layer_run.unchanged + excluded.unchanged,
    duplicate = entity_layer_run.duplicate + excluded.duplicate,
    stale = entity_layer_run.stale + excluded.stale,
    control = entity_layer_run.control + excluded.control,
    quarantined = entity_layer_run.quarantined + excluded.quarantined,
    late = entity_layer_run.late + excluded.late,
    rows_opened = entity_layer_run.rows_opened + excluded.rows_opened,
    rows_closed = entity_layer_run.rows_closed + excluded.rows_closed,
    rows_rewritten = entity_layer_run.rows_rewritten + excluded.rows_rewritten,
    bytes = entity_layer_run.bytes + excluded.bytes
