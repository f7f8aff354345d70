SELECT * FROM quarantine WHERE id = $1
