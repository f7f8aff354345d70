INSERT INTO ledger_id (one, id) VALUES (1, $1)
ON CONFLICT (one) DO NOTHING
