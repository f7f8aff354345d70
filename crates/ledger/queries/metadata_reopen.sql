UPDATE metadata_history SET valid_to = NULL
WHERE seq = (SELECT max(seq) FROM metadata_history WHERE kind = $1 AND name = $2)
    AND spec = $3 AND NOT EXISTS (
        SELECT 1 FROM system_run WHERE system = $4 AND ended_at >= metadata_history.valid_to
    )
