UPDATE entity_layer_run SET status = $2, ended_at = $3 WHERE run_id = $1 AND status = 'running'
