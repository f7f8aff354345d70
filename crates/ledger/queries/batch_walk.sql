SELECT * FROM batch WHERE system = $1 AND entity = $2 ORDER BY layer, epoch, to_offset
