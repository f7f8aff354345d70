SELECT * FROM batch WHERE system = $1 AND entity = $2 AND layer = $3 AND epoch = $4
ORDER BY to_offset DESC LIMIT 1
