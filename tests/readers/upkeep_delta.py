#!/usr/bin/env python3
"""Does to a Delta table what engines that are not ours can do to it, and says what came of it.

    upkeep_delta.py TABLE

delta-rs: a VACUUM of all that it takes for orphans, however young; OPTIMIZE; OPTIMIZE in the order
of `id`; that VACUUM once more, now with files to remove. DuckDB: DELETE and UPDATE. Prints one JSON
object: of each of delta-rs how many files it removed, of each of DuckDB whether it was refused.
"""

import json
import pathlib
import sys

import deltalake

sys.dont_write_bytecode = True
from read_delta import duckdb_with_delta  # noqa: E402


def vacuum(table):
    return len(
        deltalake.DeltaTable(table).vacuum(
            retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
        )
    )


def optimize(table):
    return deltalake.DeltaTable(table).optimize.compact()["numFilesRemoved"]


def order(table):
    return deltalake.DeltaTable(table).optimize.z_order(["id"])["numFilesRemoved"]


def is_refused(table, statement):
    import duckdb

    connection = duckdb_with_delta()
    connection.execute(f"ATTACH '{table}' AS silver (TYPE delta)")
    try:
        connection.execute(statement)
    except duckdb.BinderException:
        return True
    return False


def main():
    table = str(pathlib.Path(sys.argv[1]).resolve())
    told = {"vacuum": vacuum(table), "optimize": optimize(table), "order": order(table)}
    told["vacuum_after"] = vacuum(table)
    told["delete_refused"] = is_refused(table, "DELETE FROM silver WHERE id = 1")
    told["update_refused"] = is_refused(table, "UPDATE silver SET city = 'X' WHERE id = 1")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
