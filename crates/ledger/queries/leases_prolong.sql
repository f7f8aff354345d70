UPDATE lease SET expires_at = $2
WHERE expires_at > $1 AND (name, token) IN (VALUES {held})
RETURNING name
