INSERT INTO lease (name, holder, token, expires_at)
SELECT value, ?2, ?3, ?5 FROM json_each(?1) WHERE true
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder, token = max(lease.token + 1, excluded.token),
    expires_at = excluded.expires_at
WHERE lease.expires_at <= ?4 OR lease.holder = excluded.holder
RETURNING name, token
