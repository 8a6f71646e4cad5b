"""Aurora's own export: ``aws_s3.query_export_to_s3`` of Aurora and RDS writes the rows of a statement to S3, so that no
row passes through this process. The files are PostgreSQL's CSV, as COPY prints it, and not compressed.

The function runs in the caller's transaction, and so in its snapshot. It overwrites objects, continues a file of more
than 6 GB in objects named ``_part2`` and so on, and returns only sums. Therefore each call writes under a name that no
other call and no other attempt has. Afterwards its objects are listed: their names, number and bytes must be those that
the function reported.

A large read is divided into several calls, because one thread of the warehouse loads one file. The calls read
consecutive ranges of blocks (ctid), each with a TID range scan. Ranges of one snapshot neither overlap nor leave out a
row; the last one has no end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from aurora_sync.errors import SourceError
from aurora_sync.model.export import Destination, Exported
from aurora_sync.model.manifest import StagedFile
from aurora_sync.model.relation import SourceTable
from aurora_sync.source.aurora_errors import translate
from aurora_sync.source.chunks import HAS_RANGE_SCANS
from aurora_sync.source.copy_out import Progress, Select
from aurora_sync.source.exporter import Exporter

# Output of one call. Snowflake asks for files of 100 to 250 MB compressed, but one call for more takes longer to repeat
# and to cancel.
CALL_BYTES = 200_000_000
# A range may be this many times as wide as the one before. An increment often leaves out most of a table, and then a
# few calls reach its end. A larger factor would make the last file of a table that grows at its end too large.
_WIDER = 2
# A row is not longer than its file. The longest row of a larger file is queried. Up to this length DuckDB reads rows
# within its usual memory (warehouse/duckdb.py), and no value is too long for a warehouse.
_SHORT_FILE = 8 * 2**20

# The bucket must be in the region of the cluster, which is the default of the function.
_EXPORT = """
SELECT rows_uploaded, files_uploaded, bytes_uploaded
  FROM aws_s3.query_export_to_s3(query => %(query)s, bucket => %(bucket)s, file_path => %(key)s, region => NULL::text,
                                 options => %(options)s, kms_key => %(kms_key)s)
"""
_OPTIONS = "format csv, encoding 'UTF8'"

_SIZES = """
WITH RECURSIVE leaves(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN leaves ON i.inhparent = leaves.oid)
SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint,
       coalesce(max(pg_relation_size(oid)), 0)::bigint / current_setting('block_size')::int
  FROM leaves
"""

# `aurora-sync check` exports this row.
TRIAL = sql.SQL("SELECT 1, 'ü', NULL, ''")
TRIAL_CSV = '1,ü,,""\n'.encode()


@dataclass(frozen=True)
class AuroraExport(Exporter):
    """Exports by ``aws_s3.query_export_to_s3``. Without ``kms_key`` Aurora encrypts the objects with the AWS managed
    key for S3; with it, by this customer managed key."""

    kms_key: str = ""
    call_bytes: int = CALL_BYTES

    def export(
        self,
        connection: Connection,
        table: SourceTable,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        files, rows, number = list[StagedFile](), 0, 0
        with connection.cursor() as cursor:
            try:
                limit = _TimeLimit(cursor, table.qualified_name)
                ranges = self._ranges(cursor, table, statement)
                part: sql.Composable | None = ranges.first()
                while part is not None:
                    limit.apply()
                    written = self._call(cursor, part, destination, number)
                    files += written
                    rows += sum(file.rows for file in written)
                    if progress:
                        share = min(rows / table.row_estimate, 1.0) if table.row_estimate else None
                        progress(Progress(rows, sum(file.bytes for file in files), limit.seconds, share))
                    number, part = number + 1, ranges.after(sum(file.bytes for file in written))
                limit.remove()
            except psycopg2.Error as error:
                raise translate(error, where=table.qualified_name) from None
        destination.add(files)
        longest = max((file.row_bytes for file in files), default=0)
        return Exported(rows, longest, newest=None)

    def try_out(self, connection: Connection, destination: Destination) -> str:
        """Export :data:`TRIAL` in a transaction as that of a read, and return the name of its object. Raises
        SourceError or StageError."""
        with connection.cursor() as cursor:
            try:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                written = self._call(cursor, TRIAL, destination, 0)
                cursor.execute("COMMIT")
            except psycopg2.Error as error:
                raise translate(error, where="export: aurora") from None
        return written[0].name if written else ""

    def _call(
        self, cursor: Cursor, statement: sql.Composable, destination: Destination, number: int
    ) -> list[StagedFile]:
        """Export one statement and return its files; none, and no object, if it has no rows."""
        bucket, _, prefix = destination.uri.removeprefix("s3://").partition("/")
        name = destination.own_name(number)
        query = statement.as_string(cursor)
        arguments = {"query": query, "bucket": bucket, "key": prefix + name, "options": _OPTIONS}
        cursor.execute(_EXPORT, {**arguments, "kms_key": self.kms_key or None})
        ((rows, count, size),) = cursor.fetchall()
        stored = dict(destination.stored(name))
        if not (rows or size or any(stored.values())):  # whether there is an empty object or none
            destination.remove(list(stored))
            return []
        names = [name, *(f"{name}_part{part}" for part in range(2, count + 1))]
        if stored.keys() != set(names) or sum(stored.values()) != size or not (rows and size):
            raise _disagreement((rows, count, size), stored, destination.uri + name)
        longest = max(stored.values())
        if longest > _SHORT_FILE:
            longest = _longest_row(cursor, statement)
        # The function does not say how its rows are distributed over the parts.
        return [
            StagedFile(each, 0 if place else rows, stored[each], longest, compression="")
            for place, each in enumerate(names)
        ]

    def _ranges(self, cursor: Cursor, table: SourceTable, statement: sql.Composable) -> _Ranges:
        """Return the ranges of a statement; one range if it is not expected to write more than one file, or if its
        relation cannot be read by ranges of blocks."""
        by_blocks = table.is_heap and cursor.connection.server_version // 10_000 >= HAS_RANGE_SCANS
        if not (by_blocks and isinstance(statement, Select)):
            return _Ranges(statement)
        cursor.execute(_SIZES, (table.oid,))
        ((size, blocks),) = cursor.fetchall()
        if size <= self.call_bytes:
            return _Ranges(statement)
        cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement))
        (((plan,),),) = cursor.fetchall()
        share = min(1.0, plan["Plan"]["Plan Rows"] / table.row_estimate) if table.row_estimate else 1.0
        if size * share <= self.call_bytes:
            return _Ranges(statement)
        # The planner often guesses the share. The first range is as wide as it has to be if every row is exported.
        end = statement.blocks[1]
        last = blocks if end is None else min(end, blocks)
        return _Ranges(statement, last, blocks * self.call_bytes / size, self.call_bytes)


class _TimeLimit:
    """Lets all calls of an export together take as long as one statement of the transaction may: the snapshot is held
    for all of them."""

    def __init__(self, cursor: Cursor, where: str) -> None:
        cursor.execute("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
        ((self._milliseconds,),) = cursor.fetchall()
        self._cursor = cursor
        self._where = where
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def apply(self) -> None:
        """Give the next statements the time that is left. Raises SourceError if there is none."""
        left = self._milliseconds - int(self.seconds * 1000)
        if self._milliseconds and left <= 0:
            raise SourceError(
                f"the export was stopped after {self.seconds / 60:,.0f} minutes, the limit for a snapshot",
                where=self._where,
                hint="raise max_snapshot_minutes in tables.yaml, or read less",
            )
        if self._milliseconds:
            self._cursor.execute(f"SET LOCAL statement_timeout TO {left:d}")

    def remove(self) -> None:
        self._cursor.execute(f"SET LOCAL statement_timeout TO {self._milliseconds:d}")


class _Ranges:
    """The ranges of blocks by which a statement is read, each sized by the output of the one before. Of a partitioned
    table a range has these blocks of every partition. The last range begins before the block ``last``, and ends as the
    statement does. Without ``last`` there is one range."""

    def __init__(
        self, statement: sql.Composable, last: int = 0, width: float = 1, call_bytes: int = CALL_BYTES
    ) -> None:
        self._statement = statement
        self._last = last
        self._width = max(1, int(width))
        self._call_bytes = call_bytes
        self._begin: int | None = statement.blocks[0] if isinstance(statement, Select) else 0

    def first(self) -> sql.Composable:
        assert self._begin is not None
        return self._next(self._begin)

    def after(self, size: int) -> sql.Composable | None:
        """Return the next statement, after one that wrote ``size`` bytes; None at the end."""
        if self._begin is None:
            return None
        self._width = max(1, int(self._width * min(_WIDER, self._call_bytes / max(1, size))))
        return self._next(self._begin)

    def _next(self, begin: int) -> sql.Composable:
        end = begin + self._width
        self._begin = end if end < self._last else None
        if not isinstance(self._statement, Select):
            return self._statement
        if self._begin is not None:
            return self._statement.within((begin, end))
        first, last = self._statement.blocks
        return self._statement if begin == first else self._statement.within((begin, last))


def _longest_row(cursor: Cursor, statement: sql.Composable) -> int:
    """Return an upper bound of the length of a row in UTF-8 CSV. A quotation mark is written twice, and a character of
    another encoding has at most three bytes in UTF-8 for each of its own. For text the server reads only the header of
    the value."""
    cursor.execute(sql.SQL("SELECT * FROM ({}) exported LIMIT 0").format(statement))
    names = [sql.Identifier(f"f{place}") for place in range(len(cursor.description or ()))]
    factor = 2 if cursor.connection.get_parameter_status("server_encoding") == "UTF8" else 6
    size = sql.SQL("coalesce({} * octet_length({}::text)::bigint, 0) + 3")
    query = sql.SQL("SELECT coalesce(max({}), 0) FROM ({}) exported({})").format(
        sql.SQL(" + ").join(size.format(sql.Literal(factor), name) for name in names),
        statement,
        sql.SQL(", ").join(names),
    )
    cursor.execute(query)
    ((longest,),) = cursor.fetchall()
    return int(longest)


def _disagreement(reported: tuple[Any, ...], stored: dict[str, int], uri: str) -> SourceError:
    rows, files, size = reported
    objects = ", ".join(f"{name} ({size:,} bytes)" for name, size in sorted(stored.items())) or "no object"
    return SourceError(
        f"aws_s3.query_export_to_s3 reported {rows:,} rows, {size:,} bytes and {files:,} as the number of files, but"
        f" under this name the bucket has {objects}",
        where=uri,
        hint="AURORA_SYNC_STAGE must name a bucket of Amazon S3 in the region of the cluster; AWS_ENDPOINT_URL_S3 must"
        " not name another server. No row is lost; with export: client in tables.yaml this program writes the files",
    )
