DELETE FROM system_run
WHERE status <> 'running' AND (started_at < $1
    OR run_id <= (SELECT run_id FROM system_run ORDER BY run_id DESC LIMIT 1 OFFSET $2))
