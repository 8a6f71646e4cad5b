"""Reads rows of one relation from the open snapshot, as CSV: the SELECT, its COPY, and the count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.column import Column
from aurora_sync.model.export import Sink
from aurora_sync.model.relation import SourceTable
from aurora_sync.source import chunks, long_values
from aurora_sync.source.arrays import AS_IN_JSON, FLOATS
from aurora_sync.source.server_errors import translate

# Frequent enough for a bar on a terminal. Logs limit their lines themselves.
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Progress:
    """Progress of a phase of a run. The first report of each phase has 0 seconds; only the export sends further ones.

    ``share`` is the share of the relation's estimated rows; None without an estimate.
    """

    rows: int  # exported so far; in the other phases, all rows of the increment
    bytes: int  # of CSV before compression; in the other phases, of the compressed files
    seconds: float
    share: float | None
    phase: str = "export"  # or load, merge, compare; or chunks, before those of a load


class Select(sql.Composed):
    """A SELECT of rows of one relation. ``blocks`` are the blocks to which it is limited by its condition: from the
    first up to the second; None: no end."""

    def __init__(
        self, rows: sql.Composable, where: sql.Composable | None, blocks: tuple[int, int | None] = (0, None)
    ) -> None:
        super().__init__([rows, _filter(where)])
        self.blocks = blocks
        self._rows = rows
        self._where = where

    def limited_to(self, blocks: tuple[int, int | None]) -> Select:
        """Return the same SELECT, whose condition limits the rows to these blocks."""
        return Select(self._rows, self._where, blocks)

    def within(self, blocks: tuple[int, int | None]) -> Select:
        """Return the SELECT of those of the rows that are in these blocks."""
        condition = chunks.within(blocks)
        where = condition if self._where is None else sql.SQL("({}) AND {}").format(self._where, condition)
        return Select(self._rows, where, blocks)


def select_statement(
    table: SourceTable, columns: Sequence[Column], where: sql.Composable | None, longest: int | None = None
) -> Select:
    """Build the SELECT of an increment: the columns in order, then the row's raw 32-bit xmin (0 if the relation has
    none). COPY prints an xid as a number, and a cast of each one would take longer."""
    fields = [value(column, longest) for column in columns]
    fields.append(sql.SQL("xmin" if table.is_heap else "0"))
    return Select(sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(fields), _name(table)), where)


# An array whose subscripts do not begin at 1 stays as PostgreSQL prints it: [0:1]={5,6}.
_ARRAY = "CASE WHEN {0}::text LIKE '[%' THEN {0}::text {1} END"


def value(column: Column, longest: int | None = None) -> sql.Composable:
    """SQL for a column's value: as COPY prints it, or as its policy or an array requires. ``longest`` is the most bytes
    of a value that the warehouse accepts (None: no limit)."""
    name: sql.Composable = sql.Identifier(column.name)
    if column.is_array and column.policy != "text":
        elements = "ELSE to_json({0}::text::text[])::text"
        if column.base_type in AS_IN_JSON:
            elements = "ELSE to_json({0})::text"
        elif column.base_type in FLOATS:
            elements = "WHEN {0}::text ~ '[{{,]-0[,}}]' THEN to_json({0}::text::text[])::text ELSE to_json({0})::text"
        return long_values.limited(column, sql.SQL(_ARRAY).format(name, sql.SQL(elements).format(name)), longest)
    return long_values.limited(column, name, longest)


def copy_out(
    connection: Connection,
    table: SourceTable,
    columns: Sequence[Column],
    where: sql.Composable | None,
    sink: Sink,
) -> int:
    """Write the rows that ``where`` selects to the sink, in the caller's open transaction. Returns their number."""
    statement = select_statement(table, columns, where)
    return copy_rows(connection, table, statement, sink)


def copy_rows(
    connection: Connection,
    table: SourceTable,
    statement: sql.Composable,
    sink: Sink,
) -> int:
    """Write the rows of a SELECT to the sink, in the caller's open transaction. Returns their number.

    The format is PostgreSQL's CSV: NULL is an empty field without quotes, the empty string is ``""``, and the session's
    settings decide the text of values. Raises SourceError if the server fails. After an error of the server or the
    sink, the transaction cannot be used any more; if the sink failed, the statement is cancelled.
    """
    with connection.cursor() as cursor:
        try:
            cursor.copy_expert(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(statement), sink)
        except psycopg2.Error as error:
            raise translate(error, where=table.qualified_name) from None
        except BaseException:
            # The server is still sending. Without cancel(), a ROLLBACK would first read the rest of the table.
            connection.cancel()
            raise
        return cursor.rowcount


def count_rows(connection: Connection, table: SourceTable, where: sql.Composable | None) -> int:
    """Return ``count(*)`` of the rows that ``where`` selects, in the caller's open transaction."""
    statement = sql.SQL("SELECT count(*) FROM {}").format(_name(table)) + _filter(where)
    with connection.cursor() as cursor:
        try:
            cursor.execute(statement)
            (count,) = cursor.fetchall()[0]
        except psycopg2.Error as error:
            raise translate(error, where=table.qualified_name) from None
    return int(count)


def reporting(estimate: int, progress: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """Return a function that takes the numbers of rows and bytes so far, and reports them now and then. ``estimate`` is
    the number of all rows; 0: not known."""
    begin = reported = time.monotonic()

    def report(rows: int, size: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _PROGRESS_SECONDS:
            reported = now
            progress(Progress(rows, size, now - begin, min(rows / estimate, 1.0) if estimate else None))

    return report


def _name(table: SourceTable) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _filter(where: sql.Composable | None) -> sql.Composable:
    return sql.SQL("") if where is None else sql.SQL(" WHERE ") + where
