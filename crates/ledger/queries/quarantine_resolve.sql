UPDATE quarantine SET status = $2, resolved_at = $3 WHERE id = $1 AND status = 'open'
