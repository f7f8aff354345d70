SELECT id FROM ledger_id
