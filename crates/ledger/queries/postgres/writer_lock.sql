-- One writing transaction at a time: the number is no table's, only ours. It ends with the transaction.
SELECT pg_advisory_xact_lock(7306947415021)
