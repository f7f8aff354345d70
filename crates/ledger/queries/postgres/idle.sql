-- A transaction that this statement begins has begun with it.
SELECT now() = statement_timestamp()
