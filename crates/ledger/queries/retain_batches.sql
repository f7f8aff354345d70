-- Only the oldest go, never one from the middle, so that what is kept can be summed; and never the
-- last of a layer, at which it is compared with others.
DELETE FROM batch
WHERE (seq < coalesce((SELECT min(seq) FROM batch WHERE applied_at >= $1), seq + 1)
    OR seq <= (SELECT seq FROM batch ORDER BY seq DESC LIMIT 1 OFFSET $2))
    AND NOT EXISTS (SELECT 1 FROM layer_total t
        WHERE t.system = batch.system AND t.entity = batch.entity AND t.layer = batch.layer
            AND t.epoch = batch.epoch AND t.to_offset = batch.to_offset)
