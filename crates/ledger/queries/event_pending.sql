SELECT event_id, event, created_at FROM outbox WHERE delivered_at IS NULL ORDER BY seq LIMIT $1
