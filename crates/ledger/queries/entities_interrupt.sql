UPDATE entity_layer_run SET status = 'interrupted', ended_at = $1
WHERE status = 'running' AND run_id IN (SELECT run_id FROM system_run WHERE status = 'interrupted')
