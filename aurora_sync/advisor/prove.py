"""Falsify a watermark column with the rows themselves: which were written later than the column says.

A row's xmin tells after which others it was written. A row that stands behind one whose column says t, and says itself
a time long before t, was written without the column: a cursor on it has passed it by. What a row does not show
cannot be proved by it: a column without a liar may still lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.relation import SourceTable

# An honest time is that of its transaction's begin, and a transaction that began before may commit behind it.
MARGIN = timedelta(hours=1)
EXAMPLES = 5

# Values in the future say nothing of when a row was written. The age is exact for rows younger than 2^32 transactions.
_QUERY = """
WITH written AS (
    SELECT ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint - xmin::text::bigint) & 4294967295) AS age,
           {column}::timestamptz AS says, {key} AS key FROM {table}
), transactions AS (
    SELECT age, max(least(says, now())) FILTER (WHERE isfinite(says)) AS says FROM written GROUP BY age
), behind AS (
    SELECT age, max(says) OVER (ORDER BY age DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS says
      FROM transactions
), judged AS (
    SELECT w.key, w.says, b.says AS others, w.says < b.says - %(margin)s AS lies
      FROM written w JOIN behind b USING (age)
)
SELECT count(*), count(*) FILTER (WHERE lies), count(*) FILTER (WHERE says IS NULL),
       (array_agg(key ORDER BY others - says DESC) FILTER (WHERE lies))[1:%(examples)s],
       (array_agg(says::text ORDER BY others - says DESC) FILTER (WHERE lies))[1:%(examples)s],
       (array_agg(others::text ORDER BY others - says DESC) FILTER (WHERE lies))[1:%(examples)s]
  FROM judged
"""


@dataclass(frozen=True)
class Liar:
    """A row that was written after ``others``, a time that another row's column had by then."""

    key: tuple[str, ...]
    says: str
    others: str


@dataclass(frozen=True)
class Proof:
    column: str
    rows: int
    lies: int  # rows written at least an hour later than their column says
    nulls: int
    examples: tuple[Liar, ...]

    @property
    def text(self) -> str:
        if self.lies:
            return (
                f"{self.column} LIES: {self.lies:,} of {self.rows:,} rows were written at least an hour later than it"
                " says"
            )
        nulls = f"; NULL in {self.nulls:,}" if self.nulls else ""
        return f"{self.column}: none of {self.rows:,} rows shows a lie{nulls}"


def prove(connection: Connection, table: SourceTable, column: str, key: Sequence[str]) -> Proof:
    """Scans the table, and sorts its transactions. Raises SourceError.

    ``column`` is of a type of clock.TYPES, ``key`` what rows are named by in the examples."""
    names = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key)
    query = sql.SQL(_QUERY).format(
        column=sql.Identifier(column),
        key=sql.SQL("ARRAY[{}]::text[]").format(names),
        table=sql.Identifier(table.schema, table.name),
    )
    with connection.cursor() as cursor:
        cursor.execute(query, {"margin": MARGIN, "examples": EXAMPLES})
        ((rows, lies, nulls, keys, says, others),) = cursor.fetchall()
    examples: list[Any] = list(zip(keys or (), says or (), others or (), strict=True))
    return Proof(column, rows, lies, nulls, tuple(Liar(tuple(k), s, o) for k, s, o in examples))
