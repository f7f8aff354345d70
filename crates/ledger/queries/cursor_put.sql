INSERT INTO cursor (system, entity, token, page, cursor, noted_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (system, entity) DO UPDATE SET
    token = excluded.token, page = excluded.page, cursor = excluded.cursor,
    noted_at = excluded.noted_at
WHERE excluded.token >= cursor.token AND excluded.page > cursor.page
