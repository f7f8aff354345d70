SELECT * FROM batch
WHERE ($1 IS NULL OR system = $1) AND ($2 IS NULL OR entity = $2) AND ($3 IS NULL OR layer = $3)
    AND ($4 IS NULL OR run_id = $4)
ORDER BY seq DESC LIMIT $5
