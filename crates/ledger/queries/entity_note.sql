INSERT INTO entity_layer_run
    (run_id, layer, system, entity, status, reason, started_at, ended_at, records, inserted)
SELECT $1, $2, $3, $4, $5, $6, $7, CASE $5 WHEN 'running' THEN NULL ELSE $7 END, $8, $8
FROM system_run r WHERE r.run_id = $1
ON CONFLICT (run_id, layer, system, entity) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, ended_at = excluded.ended_at,
    records = CASE $2 WHEN 'source' THEN excluded.records ELSE entity_layer_run.records END,
    inserted = CASE $2 WHEN 'source' THEN excluded.inserted ELSE entity_layer_run.inserted END
