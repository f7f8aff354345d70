DELETE FROM layer_total WHERE system = $1 AND entity = $2 AND layer = $3 AND epoch = $4
