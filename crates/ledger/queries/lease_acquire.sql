INSERT INTO lease (name, holder, token, expires_at) VALUES ($1, $2, $3, $5)
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder,
    token = CASE WHEN lease.token >= excluded.token THEN lease.token + 1 ELSE excluded.token END,
    expires_at = excluded.expires_at
WHERE lease.expires_at <= $4 OR lease.holder = excluded.holder
RETURNING token
