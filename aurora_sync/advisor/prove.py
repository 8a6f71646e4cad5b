"""Falsify a watermark column with the rows themselves: which were written later than the column says.

A row's xmin tells after which others it was written. A row that was written after one whose column says t, and says
itself a time long before t, was written without the column being set: a cursor on the column has passed it by. A column
without such a row may still be unreliable: rows do not show every late write.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.relation import SourceTable

# An honest time is that of its transaction's begin, and a transaction that began before may commit behind it. Without
# a zone it is the time at the writer, who may be 26 hours away; a date is that of a day which ends later.
_OPEN, _ZONES = timedelta(hours=1), timedelta(hours=26)
MARGINS = {"timestamptz": _OPEN, "timestamp": _OPEN + _ZONES, "date": _OPEN + _ZONES + timedelta(days=1)}
EXAMPLES = 5

# Values in the future say nothing of when a row was written. The age is exact for rows younger than 2^32 transactions.
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
    """A row that was written after ``others``, a time that another row's column had by then."""

    place: str  # its key is a value, which is not shown
    says: str
    others: str


@dataclass(frozen=True)
class Proof:
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
                f"{self.column} LIES: {self.lies:,} of {self.rows:,} rows were written at least {late} later than it"
                " says"
            )
        nulls = f"; NULL in {self.nulls:,}" if self.nulls else ""
        return f"{self.column}: none of {self.rows:,} rows shows a lie{nulls}"


def may_prove(table: SourceTable, column: str) -> bool:
    """Whether it is a time, of rows that have an xmin and that this role sees all of."""
    described = table.column(column)
    is_time = described is not None and described.base_type in MARGINS
    return is_time and table.is_heap and table.select_on_table and not table.row_security


def prove(connection: Connection, table: SourceTable, column: str) -> Proof:
    """Scans the table, and sorts its transactions. ``may_prove`` of the column. Raises SourceError."""
    described = table.column(column)
    assert described is not None
    margin = MARGINS[described.base_type]
    query = sql.SQL(_QUERY).format(column=sql.Identifier(column), table=sql.Identifier(table.schema, table.name))
    with connection.cursor() as cursor:
        cursor.execute(query, {"margin": margin, "examples": EXAMPLES})
        ((rows, lies, nulls, places, says, others),) = cursor.fetchall()
    examples = tuple(map(LateRow, places or (), says or (), others or ()))
    return Proof(column, rows, lies, nulls, examples, margin)
