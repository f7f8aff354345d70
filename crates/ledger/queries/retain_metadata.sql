DELETE FROM metadata_history
WHERE valid_to IS NOT NULL AND (valid_to < $1
    OR seq <= (SELECT seq FROM metadata_history WHERE valid_to IS NOT NULL
        ORDER BY seq DESC LIMIT 1 OFFSET $2))
