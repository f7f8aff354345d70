UPDATE lease SET expires_at = ?3
FROM (SELECT value ->> 0 AS name, value ->> 1 AS token FROM json_each(?1)) AS held
WHERE lease.name = held.name AND lease.token = held.token AND lease.expires_at > ?2
RETURNING name
