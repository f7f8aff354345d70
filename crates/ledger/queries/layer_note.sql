INSERT INTO system_layer_run (run_id, layer, status, reason, started_at)
SELECT $1, $2, CASE $3 WHEN 'failed' THEN 'failed' ELSE 'running' END, $4, $5
FROM system_run r WHERE r.run_id = $1
ON CONFLICT (run_id, layer) DO UPDATE SET
    status = CASE $3 WHEN 'failed' THEN 'failed' ELSE system_layer_run.status END,
    reason = CASE $3 WHEN 'failed' THEN excluded.reason ELSE system_layer_run.reason END
