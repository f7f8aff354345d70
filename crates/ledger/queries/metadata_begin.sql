INSERT INTO metadata_history (kind, name, spec, valid_from) VALUES ($1, $2, $3, $4)
