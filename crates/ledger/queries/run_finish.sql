UPDATE system_run
SET status = $2, reason = $3, ended_at = $4, entities_succeeded = $5, entities_failed = $6,
    entities_skipped = $7, polled = $8, published = $9
WHERE run_id = $1 AND status = 'running'
RETURNING system, "trigger", started_at, traceparent
