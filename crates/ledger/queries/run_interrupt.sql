UPDATE system_run
SET status = 'interrupted', reason = 'the process ended before the run did', ended_at = $1
WHERE status = 'running'
