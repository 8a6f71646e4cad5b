"""Sums over buckets of a table's keys, in the open snapshot: what the warehouse's own sums are held against.

The key number of a row is its key where that is one integer; else 15 digits of the MD5 of the key's fields, each
with its length before it. The text of a field is what COPY prints, so that the warehouse, which loaded that text,
has the same number without rendering a value itself (warehouse/merge.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.relation import SourceTable
from aurora_sync.source.server_errors import translate

_PRINTED = "CASE WHEN {0} IS DISTINCT FROM NULL THEN concat({0}) END"
# A value's text by its form, as warehouse/sums.py makes it of what was loaded; NULL stays NULL.
_TEXT = {
    # A composite value with a NULL field is not NULL, though it says so when asked IS NOT NULL.
    "text": _PRINTED,
    "fraction": _PRINTED,
    "bool": _PRINTED,
    "time": "to_char('2000-01-01'::date + {0}, 'HH24:MI:SS.US')",
    "timestamp": "to_char({0}, 'YYYY-MM-DD HH24:MI:SS.US')",
    "timestamptz": "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    "hex": "encode({0}, 'hex')",
}
# So few ranges an index can serve; more are a scan with a hashed list.
_FEW_RANGES = 50


def is_integer(table: SourceTable, key: Sequence[str]) -> bool:
    """Whether the key is its own number."""
    columns = [table.column(name) for name in key]
    return len(columns) == 1 and columns[0] is not None and columns[0].is_integer


def key_number(table: SourceTable, key: Sequence[str]) -> sql.Composable:
    if is_integer(table, key):
        return sql.SQL("{}::bigint").format(sql.Identifier(key[0]))
    # concat() prints as COPY does, where a cast to text drops the padding of character(n).
    fields = sql.SQL(", ").join(sql.SQL("length(concat({0})), ':', {0}").format(sql.Identifier(name)) for name in key)
    return _digits(sql.SQL("concat({})").format(fields))


def within(table: SourceTable, key: Sequence[str], buckets: Buckets) -> sql.Composable:
    """The rows of these buckets."""
    if buckets.labels is None:
        return sql.SQL("true")
    number, width = key_number(table, key), buckets.width
    ranges = _ranges(buckets)
    if is_integer(table, key) and len(ranges) <= _FEW_RANGES:
        column = sql.Identifier(key[0])
        return sql.SQL(" OR ").join(
            sql.SQL("{0} >= {1} AND {0} < {2}").format(column, sql.Literal(low), sql.Literal(high))
            for low, high in ranges
        )
    return sql.SQL("{0} - {0} % {1} = ANY({2}::bigint[])").format(
        number, sql.Literal(width), sql.Literal(list(buckets.labels))
    )


def span(connection: Connection, table: SourceTable, key: Sequence[str]) -> int:
    """How far apart the key numbers lie."""
    if not is_integer(table, key):
        return 10**15
    column, name = sql.Identifier(key[0]), sql.Identifier(table.schema, table.name)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(column, name))
        ((low, high),) = cursor.fetchall()
    return 0 if low is None else high - low + 1


def version_sums(connection: Connection, table: SourceTable, key: Sequence[str], among: Buckets, width: int) -> Sums:
    """By label: rows, the sum of their xmin, and that of xmin times the key number modulo 65521."""
    version = sql.SQL("xmin::text::bigint")
    return _sums(connection, table, key, among, width, version, "sum(x), sum(x * (n % 65521))")


def content_sums(
    connection: Connection,
    table: SourceTable,
    key: Sequence[str],
    forms: Mapping[str, str],
    among: Buckets,
    width: int,
) -> Sums:
    """By label: rows, and the sum of 15 digits of the MD5 of each row's columns. ``forms`` names the columns, each
    with the form of its text."""
    fields = sql.SQL(" || ").join(
        sql.SQL("coalesce(length({0}) || ':' || {0}, 'N')").format(sql.SQL(_TEXT[form]).format(sql.Identifier(name)))
        for name, form in forms.items()
    )
    return _sums(connection, table, key, among, width, _digits(fields), "sum(x)")


def _sums(
    connection: Connection,
    table: SourceTable,
    key: Sequence[str],
    among: Buckets,
    width: int,
    value: sql.Composable,
    aggregates: str,
) -> Sums:
    statement = sql.SQL(
        "SELECT n - n % {width}, count(*), {aggregates}"
        " FROM (SELECT {number} AS n, {value} AS x FROM {table} WHERE {among} {once}) r GROUP BY 1"
    ).format(
        width=sql.Literal(width),
        aggregates=sql.SQL(aggregates),
        number=key_number(table, key),
        value=value,
        table=sql.Identifier(table.schema, table.name),
        among=within(table, key, among),
        # Else the planner pulls the digest of a key up into each of its four uses: 2.6 times as slow.
        once=sql.SQL("" if is_integer(table, key) else "OFFSET 0"),
    )
    with connection.cursor() as cursor:
        try:
            cursor.execute(statement)
            return {int(label): tuple(map(int, sums)) for label, *sums in cursor.fetchall()}
        except psycopg2.Error as error:
            raise translate(error, where=table.qualified_name) from None


def _digits(text: sql.Composable) -> sql.Composable:
    """15 digits of an MD5, which every engine makes alike: of the UTF-8 bytes, whatever the database's encoding."""
    digest = sql.SQL("md5(convert_to({}, 'UTF8'))").format(text)
    return sql.SQL("translate(substr({}, 1, 15), 'abcdef', '012345')::bigint").format(digest)


def _ranges(buckets: Buckets) -> list[tuple[int, int]]:
    """The buckets as ranges of N, high exclusive, neighbours joined."""
    found: list[tuple[int, int]] = []
    for label in sorted(buckets.labels or ()):
        low = label if label > 0 else label - buckets.width + 1
        high = label + buckets.width if label >= 0 else label + 1
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found
