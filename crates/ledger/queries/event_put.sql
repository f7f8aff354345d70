INSERT INTO outbox (event_id, event, created_at) VALUES ($1, $2, $3) ON CONFLICT (event_id) DO NOTHING
