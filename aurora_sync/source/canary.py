"""Canaries: a few of the newest rows as they were exported, and how they are today.

A disk-level restore keeps the system identifier, and once its transaction counter has passed the stored horizon
nothing else of the server shows that rows below it were written anew (correctness.md, section 2).
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
_ROW = re.compile(rb'(?:[^"\n]|"(?:[^"]|"")*")*\n')
# Keys that a constant finds by their index: of an extension's type, such as citext or ltree, the operator may not be
# visible from our search_path.
_KEYS = {"int2", "int4", "int8", "oid", "numeric", "text", "varchar", "bpchar", "uuid", "bool", "bytea", "date"} | {
    "time",
    "timestamp",
    "timestamptz",
}
# A longer row is no canary: a few of them are to be read back before every run.
_LONGEST = 10_000
# Rows that a query looks at: among them are some that are short enough.
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
    """The newest of some exported CSV rows, at most ``number``, of those that go on with ``ending`` behind their xmin.
    None without a merge key that can be looked up, or of a relation whose rows have no xmin (0)."""
    if not key or any(column.name in key and column.base_type not in _KEYS for column in columns):
        return ()
    newest = at.xmax - 1
    ending += b"\n"
    whole = [row[: -len(ending)] + b"\n" for row in _ROW.findall(rows) if row.endswith(ending)]
    short = [row for row in whole if len(row) <= _LONGEST and _xmin(row)]
    short.sort(key=lambda row: (newest - _xmin(row)) & _IDS)
    return tuple(_canary(row, columns, key) for row in short[:number])


def newest_rows(connection: Connection, table: SourceTable, statement: sql.Composable, at: Snapshot) -> bytes:
    """The newest of the rows that an export's statement selects, as CSV, by a query in the caller's open snapshot.

    That runs the statement once more, and sorts by the xmin alone: long values stay where they are.
    """
    if not table.is_heap:
        return b""
    query = sql.SQL(
        "COPY (SELECT newest.* FROM (SELECT * FROM ({statement}) exported WHERE xmin <> 0"
        " ORDER BY ({newest} - xmin) & {mask} LIMIT {number}) newest"
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
    """Those whose keys are there in the caller's open snapshot, with the xmin and content that they have now."""
    if not (canaries and table.is_heap):  # a view may have taken the place of a table
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
