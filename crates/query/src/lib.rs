//! SQL over raw, bronze, silver and the ledger.
