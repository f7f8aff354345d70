SELECT * FROM cursor WHERE system = $1 AND entity = $2
