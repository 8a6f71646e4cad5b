"""Sums over buckets of a table's keys, in the open snapshot, to be compared with the sums of the warehouse.

The key number of a row is its key, if that is a single integer column. Otherwise it is 15 digits of the MD5 of the
key's fields, each preceded by its length. The text of a field is what COPY prints. The warehouse loaded that text, so
it computes the same number without rendering a value itself (warehouse/merge.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.column import Column
from aurora_sync.model.relation import SourceTable
from aurora_sync.source import long_values
from aurora_sync.source.server_errors import translate

_PRINTED = "CASE WHEN {0} IS DISTINCT FROM NULL THEN concat({0}) END"
# SQL for the text of a value, by form; warehouse/sums.py renders loaded values alike. NULL stays NULL.
_TEXT = {
    # A composite value with a NULL field is not NULL, but IS NOT NULL is false for it.
    "text": _PRINTED,
    "fraction": _PRINTED,
    "bool": _PRINTED,
    "time": "to_char('2000-01-01'::date + {0}, 'HH24:MI:SS.US')",
    "timestamp": "to_char({0}, 'YYYY-MM-DD HH24:MI:SS.US')",
    "timestamptz": "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    "hex": "encode({0}, 'hex')",
}
# Up to this many ranges become conditions for an index. More become a scan with a hashed list of labels.
_FEW_RANGES = 50


@dataclass(frozen=True)
class Content:
    """A column whose content is summed, with the form of its text. ``most`` is set if its policy is null or clamp: the
    bytes of a text that the column of the target holds."""

    column: Column
    form: str
    most: int | None = None


def is_integer(table: SourceTable, key: Sequence[str]) -> bool:
    """Return whether the key is a single integer column, which is then its own key number."""
    columns = [table.column(name) for name in key]
    return len(columns) == 1 and columns[0] is not None and columns[0].is_integer


def key_number(table: SourceTable, key: Sequence[str]) -> sql.Composable:
    """SQL for the key number of a row."""
    if is_integer(table, key):
        return sql.SQL("{}::bigint").format(sql.Identifier(key[0]))
    # concat() prints as COPY does; a cast to text would drop the padding of character(n).
    fields = sql.SQL(", ").join(sql.SQL("length(concat({0})), ':', {0}").format(sql.Identifier(name)) for name in key)
    return _digits(sql.SQL("concat({})").format(fields))


def within(table: SourceTable, key: Sequence[str], buckets: Buckets) -> sql.Composable:
    """SQL condition for the rows of these buckets."""
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
    """Return max - min + 1 of an integer key (0 for an empty table), and 10**15 for keys that are hashed."""
    if not is_integer(table, key):
        return 10**15
    column, name = sql.Identifier(key[0]), sql.Identifier(table.schema, table.name)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(column, name))
        ((low, high),) = cursor.fetchall()
    return 0 if low is None else high - low + 1


def version_sums(connection: Connection, table: SourceTable, key: Sequence[str], among: Buckets, width: int) -> Sums:
    """Sums by bucket label: number of rows, sum of xmin, sum of xmin * (key number modulo 65521)."""
    version = sql.SQL("xmin::text::bigint")
    return _sums(connection, table, key, among, width, version, "sum(x), sum(x * (n % 65521))")


def content_sums(
    connection: Connection,
    table: SourceTable,
    key: Sequence[str],
    contents: Sequence[Content],
    among: Buckets,
    width: int,
    longest: int | None = None,
) -> Sums:
    """Sums by bucket label: number of rows, sum of 15 digits of the MD5 of the ``contents`` of each row. ``longest`` is
    the most bytes of a value that the warehouse accepts (None: no limit)."""
    fields = sql.SQL(" || ").join(
        sql.SQL("coalesce(length({0}) || ':' || {0}, 'N')").format(_text(content, longest)) for content in contents
    )
    return _sums(connection, table, key, among, width, _digits(fields), "sum(x)")


def _text(content: Content, longest: int | None) -> sql.Composable:
    """SQL for the text of a value as the target has it: long values are cut, or left out, as by the export and then as
    by the merge (warehouse/types.py, sized)."""
    column = content.column
    printed = sql.SQL(_TEXT[content.form]).format(sql.Identifier(column.name))
    text = long_values.limited(column, printed, longest)
    if content.most is None:
        return text
    instead = "left({text}, {most} / 4)" if column.policy == "clamp" else "NULL"
    cut = f"CASE WHEN octet_length(convert_to({{text}}, 'UTF8')) > {{most}} THEN {instead} ELSE {{text}} END"
    return sql.SQL(cut).format(text=text, most=sql.Literal(content.most))


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
        # OFFSET 0 keeps the planner from computing the digest of a key at each of its four uses: 2.6 times as slow.
        once=sql.SQL("" if is_integer(table, key) else "OFFSET 0"),
    )
    with connection.cursor() as cursor:
        try:
            cursor.execute(statement)
            return {int(label): tuple(map(int, sums)) for label, *sums in cursor.fetchall()}
        except psycopg2.Error as error:
            raise translate(error, where=table.qualified_name) from None


def _digits(text: sql.Composable) -> sql.Composable:
    """SQL for 15 digits of the MD5 of a text. Its UTF-8 bytes are hashed, so every engine and encoding agrees."""
    digest = sql.SQL("md5(convert_to({}, 'UTF8'))").format(text)
    return sql.SQL("translate(substr({}, 1, 15), 'abcdef', '012345')::bigint").format(digest)


def _ranges(buckets: Buckets) -> list[tuple[int, int]]:
    """Ranges (low, high) of key numbers that the buckets cover; high is exclusive, adjacent ranges are joined."""
    found: list[tuple[int, int]] = []
    for label in sorted(buckets.labels or ()):
        low = label if label > 0 else label - buckets.width + 1
        high = label + buckets.width if label >= 0 else label + 1
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found
