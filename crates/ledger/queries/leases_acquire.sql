INSERT INTO lease (name, token, holder, expires_at) VALUES {wanted}
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder,
    token = CASE WHEN lease.token >= excluded.token THEN lease.token + 1 ELSE excluded.token END,
    expires_at = excluded.expires_at
WHERE lease.expires_at <= $3 OR lease.holder = excluded.holder
RETURNING name, token
