"""Names and values that the server cannot send as UTF-8: invalid bytes of a SQL_ASCII database, or characters
that UTF-8 lacks.

One such name or value makes the whole statement fail. A query for names is therefore split in halves, until it fails
for one table only. A value is searched for only after a read of its table has failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import SourceError
from aurora_sync.model.column import Column
from aurora_sync.model.relation import SourceTable

T = TypeVar("T")
UNDECODABLE = (errors.CharacterNotInRepertoire, errors.UntranslatableCharacter)
# The reported bytes may also be part of a valid character of another value, so each candidate is tried.
_CANDIDATES = 20
_SHOWN_KEY = 200
# SQL that converts a column v from LATIN1 to UTF-8, in a SQL_ASCII database, which stores any bytes.
FROM_LATIN1 = "convert_from(convert(convert_to(v, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII')"


def shown(name: bytes) -> str:
    r"""Decode a name; a byte that is not UTF-8 becomes an escape such as ``\xe9``.

    >>> shown("café".encode()), shown("café".encode("latin-1"))
    ('café', 'caf\\xe9')
    """
    return name.decode(errors="backslashreplace")


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def readable(
    connection: Connection, query: str, about: Sequence[T], parameters: Callable[[Sequence[T]], dict[str, Any]]
) -> tuple[list[tuple[Any, ...]], dict[T, str]]:
    """Run ``query`` for the elements of ``about``. Return its rows, and the server's message for each element whose
    rows cannot be sent.

    Call in autocommit: otherwise the failed query aborts the transaction, and the query for one half fails as well.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute(query, parameters(about))
            return cursor.fetchall(), {}
        except UNDECODABLE as error:
            if len(about) == 1:
                return [], {about[0]: said(error)}
    rows, faults = readable(connection, query, about[: len(about) // 2], parameters)
    more_rows, more_faults = readable(connection, query, about[len(about) // 2 :], parameters)
    return rows + more_rows, faults | more_faults


def said(error: psycopg2.Error) -> str:
    """Return the server's primary message, without its context."""
    return str(error.diag.message_primary or error).strip()


def of_read(error: BaseException) -> psycopg2.Error | None:
    """Return the server's refusal to send a value, if a read failed because of it; else None."""
    cause = error.__context__ if isinstance(error, SourceError) else error
    return cause if isinstance(cause, UNDECODABLE) else None


def located(connection: Connection, table: SourceTable, error: psycopg2.Error) -> SourceError:
    """Build the SourceError for ``error``, with the column and the row that have the bytes it names, if a scan of the
    table finds them."""
    found = re.findall(r"0x([0-9a-fA-F]{2})", said(error))
    place = _Place()
    try:
        if found:
            place = _find(connection, table, bytes.fromhex("".join(found))) or place
    except psycopg2.Error:
        pass  # a failing view, a time limit: the error still names the table
    name = sql.Identifier(table.schema, table.name).as_string(connection)
    what = f"a value of column {place.column}" if place.column else "a value"
    hint = f"the row: {place.statement}; " if place.statement else ""
    hint += "correct the value, or exclude its column under columns: in tables.yaml"
    if isinstance(error, errors.CharacterNotInRepertoire):
        hint += f"; a text in LATIN1: UPDATE {name} SET v = {FROM_LATIN1} WHERE ..."  # noqa: S608 - shown, not run
    text = f"{what} cannot be sent as UTF-8: {said(error)}"
    return SourceError(text, where=table.qualified_name, hint=hint, values=place.key)


@dataclass(frozen=True)
class _Place:
    """Location of a value. ``statement`` selects its row, ``key`` has the values of the primary key."""

    column: str = ""
    statement: str = ""
    key: str = ""


def _find(connection: Connection, table: SourceTable, part: bytes) -> _Place | None:
    key = table.primary_key
    texts = [sql.SQL("convert_to({}::text, getdatabaseencoding())").format(sql.Identifier(c)) for c in key]
    candidates = sql.SQL(", ").join(map(_raw, table.columns))
    statement = sql.SQL(
        "SELECT c.name, c.value, ARRAY[{key}]::bytea[], {place}"
        " FROM {table} t, LATERAL (VALUES {values}) c(name, value)"
        " WHERE position({part} IN c.value) > 0 LIMIT {limit}"
    ).format(
        key=sql.SQL(", ").join(texts),
        place=sql.SQL("t.tableoid::regclass::text, t.ctid::text" if table.is_heap else "'', ''"),
        table=sql.Identifier(table.schema, table.name),
        values=candidates,
        part=sql.Literal(part),
        limit=sql.Literal(_CANDIDATES),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        for column, value, row, relation, ctid in cursor.fetchall():
            try:
                cursor.execute("SELECT convert_from(%s, getdatabaseencoding())", (value,))
            except UNDECODABLE:
                names = sql.SQL(", ").join(map(sql.Identifier, key)) if key else sql.SQL("ctid")
                query = sql.SQL("SELECT {} FROM {} WHERE ctid = {}").format(names, sql.SQL(relation), sql.Literal(ctid))
                values = f"{', '.join(key)} {', '.join(shown(bytes(part)) for part in row)}" if key else ""
                return _Place(column, query.as_string(connection) if ctid else "", values[:_SHOWN_KEY])
    return None


def _raw(column: Column) -> sql.Composable:
    """SQL for a row of VALUES: the column's name, and the bytes of its text as the database stores them."""
    return sql.SQL("({}, convert_to({}::text, getdatabaseencoding()))").format(
        sql.Literal(column.name), sql.SQL("t.") + sql.Identifier(column.name)
    )
