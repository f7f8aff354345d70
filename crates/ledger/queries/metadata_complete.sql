UPDATE metadata_history SET spec = $3
WHERE kind = $1 AND name = $2 AND valid_to IS NULL AND NOT EXISTS (
    SELECT 1 FROM system_run WHERE system = $4 AND ended_at >= metadata_history.valid_from
)
