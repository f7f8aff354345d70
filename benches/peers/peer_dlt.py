"""SCD2 by dlt into DuckDB. It closes versions of keys that come again, and knows no deletes here."""

import json
import os
import sys

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
import duckdb

import turns

DATABASE = f"{sys.argv[1]}/customers.duckdb"
pipeline = dlt.pipeline(
    "customers",
    destination=dlt.destinations.duckdb(DATABASE),
    dataset_name="bench",
    pipelines_dir=f"{sys.argv[1]}/pipelines",
)


def rows(file):
    with open(file, encoding="utf-8") as lines:
        for change in map(json.loads, lines):
            if change["op"] != "delete":
                yield change["after"]


def load(file):
    scd2 = {"disposition": "merge", "strategy": "scd2"}
    pipeline.run(dlt.resource(
        rows(file), name="customers", write_disposition=scd2, merge_key="id",
    ))


def count():
    with duckdb.connect(DATABASE) as db:
        counted = "SELECT count(*), count(*) FILTER (_dlt_valid_to IS NULL) FROM bench.customers"
        return db.execute(counted).fetchone()


turns.take(f"dlt {dlt.__version__}, scd2 into DuckDB", load, load, count)
