"""SCD2 in DuckDB, written by hand: UPDATE closes versions, INSERT opens them, in one transaction."""

import sys

import duckdb

import turns

COLUMNS = """{
    op: 'VARCHAR', seq: 'BIGINT',
    after: 'STRUCT(id BIGINT, name VARCHAR, email VARCHAR, city VARCHAR, amount DOUBLE,
                   status VARCHAR, note VARCHAR, updated_at TIMESTAMPTZ)',
    before: 'STRUCT(id BIGINT, updated_at TIMESTAMPTZ)'
}"""

db = duckdb.connect(f"{sys.argv[1]}/customers.duckdb")
db.execute("SET preserve_insertion_order = false")


def first(file):
    db.execute(f"""
        CREATE TABLE customers AS
        SELECT after.*, after.updated_at AS valid_from, NULL::TIMESTAMPTZ AS valid_to,
               true AS is_current
        FROM read_ndjson('{file}', columns = {COLUMNS})""")
    db.execute("CHECKPOINT")


def batch(file):
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE changes AS
        SELECT op, after, coalesce(after.id, before.id) AS id,
               coalesce(after.updated_at, before.updated_at) AS changed
        FROM read_ndjson('{file}', columns = {COLUMNS})""")
    db.execute("BEGIN")
    db.execute("""
        UPDATE customers SET valid_to = changes.changed, is_current = false FROM changes
        WHERE customers.id = changes.id AND customers.is_current AND changes.op <> 'insert'""")
    db.execute("""
        INSERT INTO customers SELECT after.*, changed, NULL, true FROM changes WHERE op <> 'delete'""")
    db.execute("COMMIT")


def count():
    counted = "SELECT count(*), count(*) FILTER (is_current) FROM customers"
    return db.execute(counted).fetchone()


turns.take(f"DuckDB {duckdb.__version__}, UPDATE and INSERT", first, batch, count)
