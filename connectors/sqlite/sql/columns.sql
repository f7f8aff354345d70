-- The columns of a table that a query shows, generated ones too.
SELECT name, type AS declared, "notnull" AS not_null, pk AS key_part
FROM pragma_table_xinfo(?)
WHERE hidden <> 1
ORDER BY cid
