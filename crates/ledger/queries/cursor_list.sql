SELECT * FROM cursor ORDER BY system, entity
