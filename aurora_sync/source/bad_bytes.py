"""Where a table holds bytes that are no text: which column, and the first row.

A database of the encoding SQL_ASCII takes any bytes, and others take bytes that UTF-8 has no character for. The server
names neither column nor row when it has to send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.increment import Column
from aurora_sync.relation import SourceTable

# invalid byte sequence, and a character that the other encoding has not
CODES = ("22021", "22P05")
# Of these categories (pg_type.typcategory: numeric, boolean, date, timespan, network) no text has such bytes.
_PLAIN = "NBDTI"


@dataclass(frozen=True)
class Place:
    column: str
    ctid: str = ""  # of the first row; empty where rows have none
    find: str = ""  # a statement that shows the row without the column


def locate(connection: Connection, table: SourceTable, columns: Sequence[Column]) -> Place | None:
    """Read the columns one after another until one cannot be sent, and halve the table until the row is found. None
    where nothing is found any more, or the server ends the search. Ends the transaction that is open."""
    search = _Search(connection, table)
    try:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        for column in columns:
            if column.type_category not in _PLAIN and search.fails(column, sql.SQL("true")):
                ctid = search.row(column) if table.is_heap else ""
                return Place(column.name, ctid, search.statement(ctid) if ctid else "")
    except psycopg2.Error:
        pass
    return None


class _Search:
    def __init__(self, connection: Connection, table: SourceTable) -> None:
        self._connection = connection
        self._table = table
        self._name = sql.Identifier(table.schema, table.name)

    def fails(self, column: Column, where: sql.Composable) -> bool:
        query = sql.SQL("SELECT count(pg_catalog.convert_to({}::text, 'UTF8')) FROM {} WHERE {}")
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query.format(sql.Identifier(column.name), self._name, where))
        except psycopg2.Error as error:
            if error.pgcode in CODES:
                return True
            raise
        return False

    def row(self, column: Column) -> str:
        """The ctid of the first row whose value cannot be sent."""
        low, high = 0, self._blocks()
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fails(column, self._within(low, middle)) else (middle, high)
        query = sql.SQL("SELECT ctid::text FROM {} WHERE {} ORDER BY ctid").format(self._name, self._within(low, high))
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            rows = [ctid for (ctid,) in cursor.fetchall()]
        at = sql.SQL("ctid = {}::tid")
        return next((ctid for ctid in rows if self.fails(column, at.format(sql.Literal(ctid)))), "")

    def statement(self, ctid: str) -> str:
        names: list[sql.Composable] = [sql.Identifier(name) for name in self._table.primary_key]
        names = names or [sql.SQL("tableoid::regclass")]
        query = sql.SQL("SELECT {} FROM {} WHERE ctid = {}")
        return query.format(sql.SQL(", ").join(names), self._name, sql.Literal(ctid)).as_string(self._connection)

    def _blocks(self) -> int:
        query = sql.SQL("SELECT coalesce(max((ctid::text::point)[0]), 0)::bigint + 1 FROM {}").format(self._name)
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            ((blocks,),) = cursor.fetchall()
        return int(blocks)

    @staticmethod
    def _within(low: int, high: int) -> sql.Composable:
        bounds = (sql.Literal(f"({block},0)") for block in (low, high))
        return sql.SQL("ctid >= {}::tid AND ctid < {}::tid").format(*bounds)
