SELECT * FROM system_run
WHERE ($1 IS NULL OR system = $1) AND ($2 IS NULL OR status = $2)
ORDER BY run_id DESC LIMIT $3
