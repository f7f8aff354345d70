#!/usr/bin/env python3
"""Does to a Delta table what engines that are not ours can do to it, and says what came of it.

    upkeep_delta.py upkeep TABLE
    upkeep_delta.py vacuum-full TABLE

`upkeep` is of delta-rs: a VACUUM (lite) of all that has left the table, however lately; OPTIMIZE;
OPTIMIZE in the order of `id`; that VACUUM once more, now with files to remove. And of DuckDB: DELETE
and UPDATE. Prints one JSON object: of each of delta-rs how many files it removed, of each of DuckDB
whether it was refused.

`vacuum-full` is a VACUUM of all that delta-rs takes for orphans, however young. Prints how many files
of deletion vectors it removed.
"""

import json
import pathlib
import sys

import deltalake

sys.dont_write_bytecode = True
from read_delta import duckdb_with_delta  # noqa: E402


def vacuum(table, full=False):
    return deltalake.DeltaTable(table).vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=full
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


def upkeep(table):
    told = {"vacuum": len(vacuum(table)), "optimize": optimize(table), "order": order(table)}
    told["vacuum_after"] = len(vacuum(table))
    told["delete_refused"] = is_refused(table, "DELETE FROM silver WHERE id = 1")
    told["update_refused"] = is_refused(table, "UPDATE silver SET city = 'X' WHERE id = 1")
    return told


def vacuum_full(table):
    return {"vectors": sum("deletion_vector_" in name for name in vacuum(table, full=True))}


def main():
    done = {"upkeep": upkeep, "vacuum-full": vacuum_full}[sys.argv[1]]
    print(json.dumps(done(str(pathlib.Path(sys.argv[2]).resolve()))))


if __name__ == "__main__":
    main()
