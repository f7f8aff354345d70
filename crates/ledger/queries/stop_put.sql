INSERT INTO layer_stop (system, entity, layer, stopped_at, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (system, entity, layer) DO UPDATE SET
    stopped_at = excluded.stopped_at, reason = excluded.reason
