UPDATE outbox SET delivered_at = $2 WHERE event_id = $1 AND delivered_at IS NULL
