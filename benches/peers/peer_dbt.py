"""SCD2 by a snapshot of dbt on DuckDB: the changes go into a table of current rows first."""

import importlib.metadata
import os
import pathlib
import sys

os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"

import duckdb
from dbt.cli.main import dbtRunner

import turns

COLUMNS = """{
    op: 'VARCHAR', seq: 'BIGINT',
    after: 'STRUCT(id BIGINT, name VARCHAR, email VARCHAR, city VARCHAR, amount DOUBLE,
                   status VARCHAR, note VARCHAR, updated_at TIMESTAMPTZ)',
    before: 'STRUCT(id BIGINT, updated_at TIMESTAMPTZ)'
}"""
FOLDER = pathlib.Path(sys.argv[1])
DATABASE = FOLDER / "customers.duckdb"
FILES = {
    "dbt_project.yml": "{name: bench, version: 1.0.0, config-version: 2, profile: bench}",
    "profiles.yml": "{bench: {target: it, outputs: {it: {type: duckdb, path: '%s'}}}}" % DATABASE,
    "models/sources.yml": "{sources: [{name: main, tables: [{name: customers}]}]}",
    "snapshots/history.yml": """{snapshots: [{name: history, relation: "source('main', 'customers')",
        config: {unique_key: id, strategy: timestamp, updated_at: updated_at,
                 hard_deletes: invalidate}}]}""",
}
for name, text in FILES.items():
    (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(text)
runner = dbtRunner()


def snapshot():
    place = ["--project-dir", str(FOLDER), "--profiles-dir", str(FOLDER)]
    logs = ["--quiet", "--log-path", str(FOLDER / "logs")]
    done = runner.invoke(["snapshot", *place, *logs])
    if not done.success:
        raise SystemExit(f"dbt snapshot failed: {done.exception}")


def first(file):
    with duckdb.connect(DATABASE) as db:
        db.execute(f"""
            CREATE TABLE customers AS
            SELECT after.* FROM read_ndjson('{file}', columns = {COLUMNS})""")
    snapshot()


def batch(file):
    with duckdb.connect(DATABASE) as db:
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE changes AS
            SELECT op, after, coalesce(after.id, before.id) AS id
            FROM read_ndjson('{file}', columns = {COLUMNS})""")
        db.execute("DELETE FROM customers WHERE id IN (SELECT id FROM changes)")
        db.execute("INSERT INTO customers SELECT after.* FROM changes WHERE op <> 'delete'")
    snapshot()


def count():
    with duckdb.connect(DATABASE) as db:
        counted = "SELECT count(*), count(*) FILTER (dbt_valid_to IS NULL) FROM history"
        return db.execute(counted).fetchone()


version = importlib.metadata.version("dbt-core")
turns.take(f"dbt {version}, snapshot on DuckDB", first, batch, count)
