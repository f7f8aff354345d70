INSERT INTO system_run (run_id, system, "trigger", status, started_at, traceparent, worker)
VALUES ($1, $2, $3, 'running', $4, $5, $6)
