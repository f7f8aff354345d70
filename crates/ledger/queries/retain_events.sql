DELETE FROM outbox
WHERE delivered_at < $1 OR created_at < $2
    OR seq <= (SELECT seq FROM outbox ORDER BY seq DESC LIMIT 1 OFFSET $3)
