INSERT INTO system_run (run_id, system, "trigger", status, started_at, traceparent)
VALUES ($1, $2, $3, 'running', $4, $5)
