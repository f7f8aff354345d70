SELECT run_id, layer, NULL AS system, NULL AS entity, status, reason, started_at, ended_at,
    batches, records, inserted, updated, deleted, unchanged, duplicate, stale, control, quarantined, late, rows_opened, rows_closed, rows_rewritten, bytes
FROM system_layer_run WHERE run_id = $1
UNION ALL
SELECT run_id, layer, system, entity, status, reason, started_at, ended_at,
    batches, records, inserted, updated, deleted, unchanged, duplicate, stale, control, quarantined, late, rows_opened, rows_closed, rows_rewritten, bytes
FROM entity_layer_run WHERE run_id = $1
ORDER BY 2, 3 NULLS FIRST, 4 NULLS FIRST
