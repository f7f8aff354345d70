SELECT * FROM system_run WHERE run_id = $1
