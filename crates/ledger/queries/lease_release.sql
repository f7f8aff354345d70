UPDATE lease SET expires_at = $3 WHERE name = $1 AND token = $2 AND expires_at > $3
