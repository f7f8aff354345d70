-- What tells this ledger from every other one.
CREATE TABLE ledger_id (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL
) STRICT;
