SELECT
    CASE table_catalog WHEN 'ledger' THEN 'ledger' ELSE table_catalog || '.' || table_schema END || '.' || table_name AS name,
    table_catalog AS layer,
    table_schema AS system,
    table_name AS entity
FROM information_schema.tables
WHERE table_schema <> 'information_schema'
ORDER BY CASE table_catalog WHEN 'raw' THEN 1 WHEN 'bronze' THEN 2 WHEN 'silver' THEN 3 ELSE 4 END, system, entity
