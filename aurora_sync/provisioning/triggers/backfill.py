"""Set ``updated_at`` of existing rows, batch by batch, while other sessions write.

A batch is a range of pages of one leaf, in its own transaction. Locked rows are skipped until a later round. So a batch
never waits while it holds locks, and cannot take part in a deadlock. The rows themselves show the progress: an
interrupted backfill is simply run again. The comment of the trigger records that the backfill is complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.relation import SourceTable
from aurora_sync.provisioning.triggers.audit_columns import UPDATED
from aurora_sync.provisioning.triggers.installed import COLUMNS_TRIGGER, TriggerKind
from aurora_sync.provisioning.triggers.steps import TriggerStep
from aurora_sync.source.connection import write

_LEAVES = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int,
       greatest(c.reltuples, 0)::bigint
  FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind <> 'p' ORDER BY 1, 2
"""

_DONE_COMMENT = "aurora-sync: every row has its updated_at"
_IS_DONE = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = %s AND tgname = %s AND obj_description(oid, 'pg_trigger') = %s)
"""

# Upper limit, measured with narrow rows in memory on two cores (benchmarks/triggers.py).
ROWS_PER_SECOND = 150_000
# The most rows that fit into a page; used where the catalogue has no estimate.
_ROWS_PER_PAGE = 291


@dataclass(frozen=True)
class BackfillProgress:
    leaf: str
    pages: int  # of the leaf that are done in this round
    of: int  # all pages of the leaf
    rows: int  # of all leaves that got a value so far


def rows_to_backfill(connection: Connection, table: SourceTable, kind: TriggerKind) -> int:
    """Estimate how many rows a backfill has to read; 0 if none is necessary, or after :func:`done_step`."""
    if kind is TriggerKind.outbox:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_IS_DONE, (table.oid, COLUMNS_TRIGGER, _DONE_COMMENT))
        ((done,),) = cursor.fetchall()
    return 0 if done else max(table.row_estimate, 1)


def done_step(table: SourceTable) -> TriggerStep:
    """Return the step that records that the backfill is complete."""
    comment = sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
        sql.Identifier(COLUMNS_TRIGGER), sql.Identifier(table.schema, table.name), sql.Literal(_DONE_COMMENT)
    )
    lock = f"SHARE UPDATE EXCLUSIVE on {table.qualified_name}: readers and writers do not wait"
    return TriggerStep("record in the comment of the trigger that the backfill is complete", (comment,), lock)


def backfill(
    connection: Connection, table: SourceTable, *, batch_rows: int = 5_000, busy: float = 0.5
) -> Iterator[BackfillProgress]:
    """Give every row a value, and yield the progress after each batch.

    ``connection`` is in autocommit. ``busy`` is the share of the time (0 to 1) in which batches run. Raises SourceError
    if a trigger of the table undoes the update. Raises errors of psycopg2.
    """
    done = 0
    with connection.cursor() as cursor:
        cursor.execute(_LEAVES, (table.oid,))
        for schema, name, pages, rows in cursor.fetchall():
            relation, step = sql.Identifier(schema, name), _pages(pages, rows, batch_rows)
            left = True
            while left:
                left, kept, before = False, 0, done
                for first in range(0, pages, step):
                    began = time.monotonic()
                    write(cursor, _batch(relation, first, first + step))
                    ((found, free, filled),) = cursor.fetchall()
                    left, done, kept = left or filled < found, done + filled, kept + free - filled
                    yield BackfillProgress(f"{schema}.{name}", min(first + step, pages), pages, done)
                    if filled:
                        time.sleep((time.monotonic() - began) * (1 / busy - 1))
                if kept and done == before:
                    raise SourceError(
                        f"{kept:,} rows of {schema}.{name} stay without {UPDATED}: a BEFORE UPDATE trigger of the table"
                        " suppresses the update",
                        hint="disable that trigger during the backfill (ALTER TABLE ... DISABLE TRIGGER ...), and run"
                        " `aurora-sync triggers apply` again; or use --kind outbox",
                        kind=Kind.REFUSED,
                    )
                if left:
                    time.sleep(0.5)  # the transactions that lock the rows may have ended by then


def _pages(pages: int, rows: int, batch_rows: int) -> int:
    per_page = rows / pages if pages and rows else _ROWS_PER_PAGE
    return max(1, int(batch_rows / max(per_page, 1)))


# Counts rows of a range of pages: those without a value, those of them that nobody has locked, and those that got a
# value. The trigger sets the value.
_BATCH = (
    "WITH empty AS MATERIALIZED (SELECT ctid FROM ONLY {0} WHERE ctid >= {2}::tid AND ctid < {3}::tid"
    " AND {1} IS NULL), free AS MATERIALIZED (SELECT ctid FROM ONLY {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM"
    " empty)) AND {1} IS NULL FOR NO KEY UPDATE SKIP LOCKED), filled AS (UPDATE ONLY {0} t"
    " SET {1} = clock_timestamp() FROM free WHERE t.ctid = free.ctid RETURNING 1)"
    " SELECT (SELECT count(*) FROM empty), (SELECT count(*) FROM free), (SELECT count(*) FROM filled)"
)


def _batch(relation: sql.Composable, first: int, behind: int) -> sql.Composed:
    return sql.SQL(_BATCH).format(
        relation, sql.Identifier(UPDATED), sql.Literal(f"({first},0)"), sql.Literal(f"({behind},0)")
    )
