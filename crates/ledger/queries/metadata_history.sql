SELECT spec, valid_from, valid_to FROM metadata_history WHERE kind = $1 AND name = $2 ORDER BY seq DESC
