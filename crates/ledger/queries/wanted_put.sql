INSERT INTO wanted (system, entity, epoch, up_to, asked_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (system, entity) DO UPDATE SET
    epoch = excluded.epoch,
    up_to = CASE WHEN wanted.epoch = excluded.epoch AND wanted.up_to > excluded.up_to
        THEN wanted.up_to ELSE excluded.up_to END,
    asked_at = excluded.asked_at
WHERE wanted.epoch <= excluded.epoch
