"""Values longer than the warehouse accepts: they are refused, or left out or cut as the column's policy says.

``longest`` is the most bytes of a value that the warehouse accepts (None: no limit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import GuardError
from aurora_sync.model.column import Column
from aurora_sync.model.receipt import Adjusted
from aurora_sync.model.relation import SourceTable

EXAMPLES = 3
# Categories without long values (pg_type.typcategory: numeric, boolean, date, timespan, enum, network).
_SHORT = "NBDTEI"


def may_be_long(column: Column) -> bool:
    return column.type_category not in _SHORT


def limited(column: Column, value: sql.Composable, longest: int | None) -> sql.Composable:
    """SQL for ``value``, or for what the column's policy puts in place of a value that is too long."""
    if longest is None or column.policy not in ("null", "clamp") or not may_be_long(column):
        return value
    instead = "NULL"
    if column.policy == "clamp":  # as many characters as surely fit: a character has up to four bytes
        instead = "left({name}, CASE octet_length({name}) WHEN length({name}) THEN {most} ELSE {most} / 4 END)"
    return sql.SQL(f"CASE WHEN {{size}} <= {{most}} THEN {{value}} ELSE {instead} END").format(
        size=_size(column), most=sql.Literal(longest), value=value, name=sql.Identifier(column.name)
    )


class Limits:
    """Applies the policies to values that arrive as text in a change stream."""

    def __init__(self, table: str, columns: Sequence[Column], longest: int | None) -> None:
        self._table = table
        self._longest = longest or 0
        watched = enumerate(columns) if longest is not None else ()
        self._watched = [(place, column) for place, column in watched if may_be_long(column)]
        self._sizes: dict[int, list[str]] = {}

    def apply(self, values: list[Any], key: Sequence[Any]) -> None:
        """Apply the column's policy, null or clamp, to values that are too long. Raises GuardError without a policy."""
        refused: dict[str, str] = {}
        for place, column in self._watched:
            value = values[place]
            if value is None or len(value) <= self._longest:
                continue
            example = f"{len(value):,} bytes of {', '.join(part.decode() for part in key)}"
            if column.policy not in ("null", "clamp"):
                refused[column.name] = example
                continue
            self._sizes.setdefault(place, []).append(example)
            values[place] = None
            if column.policy == "clamp":
                text = value.decode()
                values[place] = text[: self._longest // (1 if len(text) == len(value) else 4)].encode()
        if refused:
            raise _too_long(refused, self._table, self._longest)

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        columns = dict(self._watched)
        return tuple(
            Adjusted(columns[place].name, columns[place].policy, len(sizes), tuple(sizes[:EXAMPLES]))
            for place, sizes in self._sizes.items()
        )


def find(
    connection: Connection,
    table: SourceTable,
    columns: Sequence[Column],
    key: Sequence[str],
    where: sql.Composable | None,
    *,
    longest_row: int,
    longest: int | None,
) -> tuple[Adjusted, ...]:
    """Return the columns in which values were left out or cut, among the rows that ``where`` selects.

    Raises GuardError for a value that is too long and must not be changed. Such a value is possible only if
    ``longest_row``, the bytes of the longest row that was read, exceeds ``longest``. Only then, and for columns with a
    policy of null or clamp, the rows are scanned again.
    """
    if longest is None:
        return ()
    watched = [
        column
        for column in columns
        if may_be_long(column) and (column.policy in ("null", "clamp") or longest_row > longest)
    ]
    found = [_found(connection, table, column, key, where, longest) for column in watched]
    refused = {a.column: ", ".join(a.examples) for a in found if a.values and a.policy not in ("null", "clamp")}
    if refused:
        raise _too_long(refused, table.qualified_name, longest)
    return tuple(adjusted for adjusted in found if adjusted.values)


def _found(
    connection: Connection,
    table: SourceTable,
    column: Column,
    key: Sequence[str],
    where: sql.Composable | None,
    longest: int,
) -> Adjusted:
    statement = sql.SQL("SELECT count(*) OVER (), {size}, {key} FROM {table} WHERE {size} > {most} AND {where}").format(
        size=_size(column),
        key=sql.SQL("concat_ws(', ', {})").format(sql.SQL(", ").join(map(sql.Identifier, key)) if key else sql.NULL),
        table=sql.Identifier(table.schema, table.name),
        most=sql.Literal(longest),
        where=where or sql.SQL("true"),
    )
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("{} ORDER BY 3, 2 LIMIT {}").format(statement, sql.Literal(EXAMPLES)))
        rows = cursor.fetchall()
    examples = tuple(f"{size:,} bytes{' of ' + key if key else ''}" for _, size, key in rows)
    find = ""
    if rows:
        name = sql.Identifier(table.schema, table.name)
        form = "SELECT ctid, {0} FROM {1} WHERE {0} > {2}" if table.is_heap else "SELECT {0} FROM {1} WHERE {0} > {2}"
        find = sql.SQL(form).format(_size(column), name, sql.Literal(longest)).as_string(connection)
    return Adjusted(column.name, column.policy, rows[0][0] if rows else 0, examples, find)


def _too_long(examples: Mapping[str, str], table: str, longest: int) -> GuardError:
    named = "; ".join(
        f"column {name} has values longer than {longest:,} bytes, the limit of the warehouse" for name in examples
    )
    policies = ", ".join(f"{name}: null" for name in examples)
    return GuardError(
        named,
        where=table,
        values="; ".join(f"{name}: {found}" for name, found in examples.items()),
        hint=f"in tables.yaml column_types: {{{policies}}} makes these values NULL; clamp truncates a text instead",
    )


def _size(column: Column) -> sql.Composable:
    """SQL for the bytes of the value's text. For text and bytea the server reads only the header of the value."""
    by_type = {"text": "octet_length({})", "varchar": "octet_length({})", "bytea": "2 + 2 * octet_length({})::bigint"}
    return sql.SQL(by_type.get(column.base_type, "octet_length({}::text)")).format(sql.Identifier(column.name))
