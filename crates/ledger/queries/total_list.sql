SELECT * FROM layer_total WHERE system = $1 AND entity = $2 ORDER BY layer, epoch
