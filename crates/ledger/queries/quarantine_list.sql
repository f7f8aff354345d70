SELECT id, layer, system, entity, epoch, message_offset, record_index, code, reason,
    truncated, size, batch_id, run_id, quarantined_at, status, resolved_at
FROM quarantine
WHERE ($1 IS NULL OR system = $1) AND ($2 IS NULL OR entity = $2) AND ($3 IS NULL OR status = $3)
ORDER BY id DESC LIMIT $4
