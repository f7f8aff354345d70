#!/usr/bin/env python3
"""Reads a Delta table with engines that are not ours, and says what they see.

    read_delta.py rows ENGINE TABLE             the rows as NDJSON, sorted by their text
    read_delta.py compare TABLE [NDJSON|-]      whether all engines see the same rows, and those
                                                that `alluvium query --output ndjson` wrote, if given

ENGINE is polars, duckdb or deltalake; `--engines` names those to compare. TABLE is a folder, or an
address s3://…, of whose store the variables AWS_… tell. Values are brought to one form, so that equal rows are equal
text whoever read them: columns by name, bytes as lower-case hexadecimal digits, instants as
microseconds since 1970, dates as 2026-01-31, decimals as text with all digits of their scale, and
NaN and the infinities as text. `compare` prints one JSON object; exit code 1 means a difference.
"""

import argparse
import datetime
import decimal
import importlib.util
import json
import math
import pathlib
import re
import sys

INSTANT = re.compile(r"(\d{4,}-\d\d-\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?")
EPOCH = datetime.date(1970, 1, 1).toordinal()
SHOWN = 5


def polars(table):
    import polars as pl

    frame = pl.scan_delta(str(table)).collect()
    columns = []
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if kind == pl.Datetime:
            column = column.dt.epoch("us")
        elif kind == pl.Binary:
            column = column.bin.encode("hex")
        columns.append(column)
    frame = frame.select(columns)
    return frame.columns, frame.iter_rows()


def duckdb_with_delta():
    import duckdb as db

    # The package's own folder, without running its code, which would install the file elsewhere.
    package = pathlib.Path(importlib.util.find_spec("duckdb_extension_delta").origin).parent
    extension = next(package.rglob("delta.duckdb_extension"))
    connection = db.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(f"LOAD '{extension}'")
    return connection


def duckdb(table):
    connection = duckdb_with_delta()
    connection.execute("SET TimeZone = 'UTC'")
    described = connection.execute("DESCRIBE SELECT * FROM delta_scan(?)", [str(table)]).fetchall()
    columns = []
    for name, kind, *_ in described:
        quoted = '"' + name.replace('"', '""') + '"'
        if kind.startswith("TIMESTAMP"):
            columns.append(f"epoch_us({quoted})")
        elif kind == "BLOB":
            columns.append(f"lower(hex({quoted}))")
        elif kind.startswith("DECIMAL"):
            columns.append(f"CAST({quoted} AS VARCHAR)")
        else:
            columns.append(quoted)
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM delta_scan(?)", [str(table)])
    return [name for name, *_ in described], iter(rows.fetchone, None)


def deltalake(table):
    import deltalake as dl
    import polars as pl

    answer = dl.QueryBuilder().register("t", dl.DeltaTable(str(table))).execute("SELECT * FROM t")
    frame = pl.DataFrame(answer.read_all())
    instants = [name for name, kind in frame.schema.items() if kind == pl.Datetime]
    frame = frame.with_columns(pl.col(instants).dt.epoch("us"))
    return frame.columns, frame.iter_rows()


ENGINES = {"polars": polars, "duckdb": duckdb, "deltalake": deltalake}


def plain(value):
    """A value as JSON can carry it without loss."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def line(row):
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def rows(engine, table):
    names, found = ENGINES[engine](table)
    return sorted(line(dict(zip(names, map(plain, row)))) for row in found)


def microseconds(text):
    day, hour, minute, second, fraction = INSTANT.fullmatch(text).groups()
    days = datetime.date.fromisoformat(day).toordinal() - EPOCH
    seconds = ((days * 24 + int(hour)) * 60 + int(minute)) * 60 + int(second)
    return seconds * 1_000_000 + int((fraction or "").ljust(9, "0")[:6])


def written(source, table):
    """The rows of `alluvium query --output ndjson`, whose instants are RFC 3339."""
    import polars as pl

    schema = pl.scan_delta(str(table)).collect_schema()
    instants = [name for name, kind in schema.items() if kind == pl.Datetime]
    lines = []
    for text in source:
        row = json.loads(text)
        for name in instants:
            if row.get(name) is not None:
                row[name] = microseconds(row[name])
        lines.append(line(row))
    return sorted(lines)


def difference(a, b):
    """The first rows that are in one and not in the other."""
    from collections import Counter

    a, b = Counter(a), Counter(b)
    return list((a - b).elements())[:SHOWN], list((b - a).elements())[:SHOWN]


def compare(table, source, engines):
    seen = {engine: rows(engine, table) for engine in engines}
    if source is not None:
        seen["alluvium"] = written(source, table)
    first, *others = seen
    differences = {}
    for other in others:
        if seen[other] != seen[first]:
            only_first, only_other = difference(seen[first], seen[other])
            differences[f"{first} and {other}"] = {first: only_first, other: only_other}
    counts = {engine: len(found) for engine, found in seen.items()}
    print(json.dumps({"same": not differences, "rows": counts, "differences": differences}))
    return 1 if differences else 0


def place(text):
    return text if "://" in text else pathlib.Path(text).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("rows")
    show.add_argument("engine", choices=sorted(ENGINES))
    show.add_argument("table", type=place)
    check = commands.add_parser("compare")
    check.add_argument("table", type=place)
    check.add_argument("ndjson", nargs="?")
    check.add_argument("--engines", type=lambda text: text.split(","), default=list(ENGINES))
    asked = parser.parse_args()
    table = asked.table
    if asked.command == "rows":
        for text in rows(asked.engine, table):
            print(text)
        return 0
    if asked.ndjson is None:
        return compare(table, None, asked.engines)
    if asked.ndjson == "-":
        return compare(table, sys.stdin, asked.engines)
    with open(asked.ndjson, encoding="utf-8") as source:
        return compare(table, source, asked.engines)


if __name__ == "__main__":
    sys.exit(main())
