INSERT INTO quarantine (layer, system, entity, epoch, message_offset, record_index, code, reason,
    bytes, truncated, size, batch_id, run_id, quarantined_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (system, entity, layer, epoch, message_offset, record_index) DO NOTHING
