UPDATE lease SET expires_at = $4 WHERE name = $1 AND token = $2 AND expires_at > $3
