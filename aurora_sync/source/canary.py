"""Canaries: a few of the newest rows as they were exported, to be compared with the same rows at the next run.

A server that is restored from a copy of its disk keeps the system identifier. Once its transaction counter has passed
the stored horizon, only canaries show that rows below the horizon were rewritten (correctness.md, section 2).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.column import Column
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Canary, Snapshot
from aurora_sync.source.copy_out import value
from aurora_sync.source.server_errors import translate

# One row of PostgreSQL's CSV: a line break inside quotes does not end it.
_ROW = re.compile(rb'(?:[^"\n]++|"[^"]*+")*+\n')
# Key types whose rows can be looked up by constants in the index. The operator of an extension's type, such as citext
# or ltree, may not be visible from our search_path.
_KEYS = {"int2", "int4", "int8", "oid", "numeric", "text", "varchar", "bpchar", "uuid", "bool", "bytea", "date"} | {
    "time",
    "timestamp",
    "timestamptz",
}
# Longer rows are not used, because the canaries are read back before every run.
_LONGEST = 10_000
# Number of newest rows that a query considers, so that some of them are short enough.
_LOOKED_AT = 200
_IDS = 2**32 - 1


def pick(
    rows: bytes | bytearray,
    columns: Sequence[Column],
    key: Sequence[str],
    at: Snapshot,
    number: int,
    *,
    ending: bytes = b"",
) -> tuple[Canary, ...]:
    """Choose the newest of some exported CSV rows, at most ``number``, among those that have ``ending`` behind their
    xmin. Returns none without a merge key that can be looked up, and of a relation whose rows have no xmin (0)."""
    if not key or any(column.name in key and column.base_type not in _KEYS for column in columns):
        return ()
    newest = at.xmax - 1
    ending += b"\n"
    whole = [row[: -len(ending)] + b"\n" for row in _ROW.findall(rows) if row.endswith(ending)]
    short = [row for row in whole if len(row) <= _LONGEST and _xmin(row)]
    short.sort(key=lambda row: (newest - _xmin(row)) & _IDS)
    return tuple(_canary(row, columns, key) for row in short[:number])


def newest_rows(connection: Connection, table: SourceTable, statement: sql.Composable, at: Snapshot) -> bytes:
    """Return the newest rows that an export's statement selects, as CSV, by a query in the caller's open snapshot.

    The query runs the statement once more. It sorts by xmin alone, so that long values (TOAST) are not fetched.
    """
    if not table.is_heap:
        return b""
    query = sql.SQL(
        "COPY (SELECT newest.* FROM (SELECT * FROM ({statement}) exported WHERE xmin::text <> '0'"
        " ORDER BY ({newest} - xmin::text::bigint) & {mask} LIMIT {number}) newest"
        " WHERE pg_column_size(newest.*) <= {longest}) TO STDOUT (FORMAT csv)"
    ).format(
        statement=statement,
        newest=sql.Literal(at.xmax - 1),
        mask=sql.Literal(_IDS),
        number=sql.Literal(_LOOKED_AT),
        longest=sql.Literal(_LONGEST),
    )
    rows = io.BytesIO()
    with connection.cursor() as cursor:
        try:
            cursor.copy_expert(query, rows)
        except psycopg2.Error as error:
            raise translate(error, where=table.qualified_name) from None
    return rows.getvalue()


def read_back(
    connection: Connection,
    table: SourceTable,
    columns: Sequence[Column],
    key: Sequence[str],
    canaries: Sequence[Canary],
    longest: int | None = None,
) -> tuple[Canary, ...]:
    """Read the canaries whose keys exist in the caller's open snapshot, with their present xmin and content."""
    if not (canaries and table.is_heap):  # a view may have replaced the table
        return ()
    values = sql.SQL(", ").join(value(column, longest) for column in columns)
    keys = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, canary.key))) for canary in canaries
    )
    rows_of = "COPY (SELECT {}, xmin::text::bigint FROM {} WHERE ({}) IN ({})) TO STDOUT (FORMAT csv)"
    statement = sql.SQL(rows_of).format(
        values,
        sql.Identifier(table.schema, table.name),
        sql.SQL(", ").join(map(sql.Identifier, key)),
        keys,
    )
    rows = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(statement, rows)
    return tuple(_canary(row, columns, key) for row in _ROW.findall(rows.getvalue()))


def _canary(row: bytes, columns: Sequence[Column], key: Sequence[str]) -> Canary:
    (fields,) = csv.reader(io.StringIO(row.decode(), newline=""))
    names = [column.name for column in columns]
    values = tuple(fields[names.index(name)] for name in key)
    return Canary(values, _xmin(row), hashlib.md5(row, usedforsecurity=False).hexdigest()[:16])


def _xmin(row: bytes) -> int:
    return int(row.rpartition(b",")[2])
