DELETE FROM quarantine
WHERE (status <> 'open' AND resolved_at < $1) OR quarantined_at < $2
    OR id <= (SELECT id FROM quarantine ORDER BY id DESC LIMIT 1 OFFSET $3)
    OR id IN (SELECT id FROM (SELECT id, sum(length(bytes)) OVER (ORDER BY id DESC) AS kept
        FROM quarantine) AS sizes WHERE kept > $4)
