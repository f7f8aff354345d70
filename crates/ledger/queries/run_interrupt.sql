UPDATE system_run
SET status = 'interrupted', reason = 'the process ended before the run did', ended_at = $1
WHERE status = 'running'
    AND (worker IS NULL OR worker NOT IN (SELECT id FROM worker WHERE expires_at > $2))
