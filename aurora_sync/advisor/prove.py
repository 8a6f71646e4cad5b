"""Search a table for rows that were written later than their watermark column shows.

The xmin of the rows gives the order in which they were written. Suppose that row A holds time t, and that row B was
written after A but holds a time long before t. Then B was written without setting the column, and a cursor on the
column misses it. A column without such a row may still be unreliable: not every late write leaves a trace in the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.relation import SourceTable

# A correct value is the time at which its transaction began: an hour is allowed for the transaction. A timestamp
# without time zone is local time of the writer, and zones are up to 26 hours apart. A date stands for a whole day.
_OPEN, _ZONES = timedelta(hours=1), timedelta(hours=26)
MARGINS = {"timestamptz": _OPEN, "timestamp": _OPEN + _ZONES, "date": _OPEN + _ZONES + timedelta(days=1)}
EXAMPLES = 5

# Values in the future count as now(): they do not show when a row was written. Ages are exact up to 2^32 transactions.
_QUERY = """
WITH written AS (
    SELECT ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint - xmin::text::bigint) & 4294967295) AS age,
           {column}::timestamptz AS says,
           tableoid::regclass::text || ' at ctid ' || ctid::text AS place FROM {table}
), transactions AS (
    SELECT age, max(least(says, now())) FILTER (WHERE isfinite(says)) AS says FROM written GROUP BY age
), behind AS (
    SELECT age, max(says) OVER (ORDER BY age DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS says
      FROM transactions
), judged AS (
    SELECT w.place, w.says, b.says AS others, w.says < b.says - %(margin)s AS lies
      FROM written w JOIN behind b USING (age)
)
SELECT count(*), count(*) FILTER (WHERE lies), count(*) FILTER (WHERE says IS NULL),
       (array_agg(place ORDER BY says) FILTER (WHERE lies))[1:%(examples)s],
       (array_agg(says::text ORDER BY says) FILTER (WHERE lies))[1:%(examples)s],
       (array_agg(others::text ORDER BY says) FILTER (WHERE lies))[1:%(examples)s]
  FROM judged
"""


@dataclass(frozen=True)
class LateRow:
    """A row with the time ``says`` that was written after a row with the later time ``others``."""

    place: str  # relation and ctid; the key is data, which is not shown
    says: str
    others: str


@dataclass(frozen=True)
class Proof:
    """Result of :func:`prove` for one column."""

    column: str
    rows: int
    lies: int  # rows written later than their column says, by ``margin`` or more
    nulls: int
    examples: tuple[LateRow, ...]
    margin: timedelta

    @property
    def text(self) -> str:
        if self.lies:
            hours = self.margin // timedelta(hours=1)
            late = "an hour" if hours == 1 else f"{hours} hours"
            return (
                f"{self.column} is UNRELIABLE: {self.lies:,} of {self.rows:,} rows were written at least {late} later "
                "than it shows"
            )
        nulls = f"; NULL in {self.nulls:,}" if self.nulls else ""
        return f"{self.column}: none of {self.rows:,} rows was written later than it shows{nulls}"


def may_prove(table: SourceTable, column: str) -> bool:
    """True if the column holds times, the rows have an xmin, and this role sees all rows."""
    described = table.column(column)
    is_time = described is not None and described.base_type in MARGINS
    return is_time and table.is_heap and table.select_on_table and not table.row_security


def prove(connection: Connection, table: SourceTable, column: str) -> Proof:
    """Scan the table and sort its transactions. ``may_prove`` must be true for the column. Raises SourceError."""
    described = table.column(column)
    assert described is not None
    margin = MARGINS[described.base_type]
    query = sql.SQL(_QUERY).format(column=sql.Identifier(column), table=sql.Identifier(table.schema, table.name))
    with connection.cursor() as cursor:
        cursor.execute(query, {"margin": margin, "examples": EXAMPLES})
        ((rows, lies, nulls, places, says, others),) = cursor.fetchall()
    examples = tuple(map(LateRow, places or (), says or (), others or ()))
    return Proof(column, rows, lies, nulls, examples, margin)
