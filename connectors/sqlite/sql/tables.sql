-- The ordinary tables of the database, and whether they have no rowid.
SELECT name, wr AS without_rowid
FROM pragma_table_list
WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
ORDER BY name
