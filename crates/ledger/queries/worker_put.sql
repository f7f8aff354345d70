INSERT INTO worker (id, told, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET told = excluded.told, expires_at = excluded.expires_at
