UPDATE system_layer_run SET (records, inserted) =
    (SELECT coalesce(sum(records), 0), coalesce(sum(inserted), 0) FROM entity_layer_run e
     WHERE e.run_id = $1 AND e.layer = 'source')
WHERE run_id = $1 AND layer = 'source'
