"""SCD2 by delta-rs: MERGE closes versions, an append opens them. Two commits, and no fsync."""

import sys

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from deltalake import DeltaTable, write_deltalake

import turns

TIME = pa.timestamp("us", "UTC")
ROW = pa.struct([
    ("id", pa.int64()), ("name", pa.string()), ("email", pa.string()), ("city", pa.string()),
    ("amount", pa.float64()), ("status", pa.string()), ("note", pa.string()), ("updated_at", TIME),
])
CHANGE = pa.schema([
    ("op", pa.string()), ("seq", pa.int64()), ("after", ROW),
    ("before", pa.struct([("id", pa.int64()), ("updated_at", TIME)])),
])
TABLE = f"{sys.argv[1]}/customers"


def read(file):
    return pyarrow.json.read_json(
        file,
        parse_options=pyarrow.json.ParseOptions(explicit_schema=CHANGE),
        read_options=pyarrow.json.ReadOptions(block_size=64 << 20),
    )


def opened(changes):
    """The versions that the changes open."""
    rows = changes.filter(pc.not_equal(changes["op"], "delete"))
    table = pa.Table.from_struct_array(rows["after"])
    table = table.append_column("valid_from", table["updated_at"])
    table = table.append_column("valid_to", pa.nulls(len(table), TIME))
    return table.append_column("is_current", pa.array([True] * len(table)))


def closed(changes):
    """The keys whose open version ends, and when."""
    rows = changes.filter(pc.not_equal(changes["op"], "insert"))

    def either(field):
        deleted, kept = (pc.struct_field(rows[side], field) for side in ("before", "after"))
        return pc.if_else(pc.equal(rows["op"], "delete"), deleted, kept)

    return pa.table({"id": either("id"), "at": either("updated_at")})


def first(file):
    write_deltalake(TABLE, opened(read(file)), mode="append")


def batch(file):
    changes = read(file)
    merge = DeltaTable(TABLE).merge(
        closed(changes), "t.id = s.id AND t.is_current = true",
        source_alias="s", target_alias="t",
    )
    merge.when_matched_update({"valid_to": "s.at", "is_current": "false"}).execute()
    write_deltalake(TABLE, opened(changes), mode="append")


def count():
    current = DeltaTable(TABLE).to_pyarrow_table(columns=["is_current"])["is_current"]
    return len(current), pc.sum(current).as_py()


turns.take(f"delta-rs {deltalake.__version__}, MERGE and append", first, batch, count)
