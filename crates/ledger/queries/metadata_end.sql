UPDATE metadata_history SET valid_to = $3 WHERE kind = $1 AND name = $2 AND valid_to IS NULL
