"""Reads one table: the fence first, then the snapshot, then the rows. The proof rests on this order.

1. The fence that the strategy asked for (fences/) looks up everything that bounds the transactions in flight, in
   separate statements (correctness.md, sections 3 and 4).
2. A transaction begins, locks the table ACCESS SHARE *before* its snapshot exists, and records the snapshot. TRUNCATE
   and rewriting ALTERs are not transactional for older snapshots; the lock makes them wait.
3. Rows and counts are read from that snapshot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.column import Column
from aurora_sync.model.export import Destination, Exported, Sink
from aurora_sync.model.fences import FenceRequest
from aurora_sync.model.observation import Observation
from aurora_sync.model.receipt import Adjusted
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.reload import RowRange
from aurora_sync.model.watermark import Canary, Snapshot, Token
from aurora_sync.source import blockers, catalogue, chunks, identity_token, long_values, sums
from aurora_sync.source.canary import newest_rows, read_back
from aurora_sync.source.connection import control_data
from aurora_sync.source.copy_out import Progress, copy_rows, count_rows, select_statement
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.exporter import Exporter
from aurora_sync.source.fences import reader_for
from aurora_sync.source.fences.base import FenceReader, altered_meanwhile
from aurora_sync.source.outbox import changes_statement
from aurora_sync.source.sums import Content

# pg_stat_activity does not list prepared transactions. A transaction that wrote in any database holds the horizon.
_OPEN = """
SELECT (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()), o.since, o.name
  FROM (SELECT) one LEFT JOIN LATERAL (
        SELECT xact_start, format('session %s of %s in database %s%s', pid, usename, datname,
                                  coalesce(' (' || nullif(application_name, '') || ')', ''))
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        UNION ALL
        SELECT prepared, format('prepared transaction %L of %s in database %s', gid, owner, database)
          FROM pg_prepared_xacts ORDER BY 1 LIMIT 1) o(since, name) ON true
"""

_MISSING = """
SELECT attname, min((attmissingval::text::text[])[1]),
       count(DISTINCT (attmissingval::text::text[])[1]) + count(DISTINCT attmissingval IS NULL) = 2
       OR count(attmissingval) = 0
  FROM pg_attribute WHERE attrelid = ANY(%(leaves)s::oid[]) AND attname = ANY(%(names)s) AND NOT attisdropped
 GROUP BY attname
"""


class Reading:
    """Reads one table on one connection. Use once, in order: :meth:`observe`, then :meth:`export` and :meth:`count`."""

    def __init__(
        self, connection: Connection, table: SourceTable, kafka: Kafka, exporter: Exporter, longest: int | None
    ) -> None:
        self._longest = longest
        self._connection = connection
        self.table = table
        self._kafka = kafka
        self._exporter = exporter

    def observe(self, request: FenceRequest | None, *, max_minutes: int, last: Token | None = None) -> Observation:
        """Observe the source as of now. Afterwards a REPEATABLE READ transaction is open, and its snapshot is fixed. It
        is ended after ``max_minutes`` of one statement or of idleness. ``last`` is the token of the previous run.

        Raises SourceError, transient, if the table's definition changed after the catalogue was read and before the
        lock was held.
        """
        fence = reader_for(request, self.table, last, self._kafka) if request else None
        prepared, oldest_writer, name = self._before_snapshot(fence)
        server = control_data(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                # SET, not set_config(): a SELECT would take the snapshot.
                cursor.execute(f"SET LOCAL {limit} TO '{max_minutes:d}min'")
            if self.table.kind in "rpv":  # the kinds that LOCK TABLE takes
                self._lock(cursor)
            snapshot, offset, token = identity_token.take_snapshot(cursor, self.table, *server)
            seen = fence.inside(cursor, token) if fence else None
        self._assert_unchanged()
        return Observation(
            snapshot=snapshot,
            token=dataclasses.replace(token, former=fence.former) if fence else token,
            offset=offset,
            fence=seen,
            prepared_transactions=prepared,
            oldest_writer=oldest_writer,
            oldest_writer_name=name or "",
        )

    def _lock(self, cursor: Cursor) -> None:
        """Lock the table against TRUNCATE and rewrites. Raises SourceError, transient, with the holders."""
        name = sql.Identifier(self.table.schema, self.table.name)
        try:
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name))
        except psycopg2.errors.LockNotAvailable as error:
            held = blockers.of_relation(self._connection, self.table.oid, blockers.AGAINST_READERS)
            raise blockers.blocked(error, self.table.qualified_name, held) from error

    def recall(self, columns: Sequence[Column], key: Sequence[str], canaries: Sequence[Canary]) -> tuple[Canary, ...]:
        """Read the canaries whose rows still exist, as they are now. They were made of ``columns``."""
        return read_back(self._connection, self.table, columns, key, canaries, self._longest)

    def statement(
        self,
        columns: Sequence[Column],
        where: sql.Composable | None,
        *,
        outbox: Outbox | None = None,
        again: RowRange | None = None,
        blocks: tuple[int, int | None] | None = None,
    ) -> sql.Composed:
        """Build the SELECT of the rows for which ``where`` holds; with an ``outbox``, of the rows that the outbox
        names, of the keys of deleted rows, and of the rows that are read ``again``. ``blocks`` are those to which
        ``where`` limits the rows, if it does."""
        if outbox:
            return changes_statement(self.table, outbox, columns, self._longest, again)
        selected = select_statement(self.table, columns, where, self._longest)
        return selected.limited_to(blocks) if blocks else selected

    def export(
        self,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        """Write the rows that the statement selects in the observed snapshot to the destination."""
        return self._exporter.export(self._connection, self.table, statement, destination, progress)

    def copy(self, statement: sql.Composable, sink: Sink) -> None:
        """Send the rows that the statement selects to this process, whoever exports the table."""
        copy_rows(self._connection, self.table, statement, sink)

    def newest(self, exported: Exported, statement: sql.Composable, at: Snapshot) -> bytes:
        """Return rows, as CSV, to choose canaries from: the last exported rows, or the newest rows that a query
        finds, if the exporter returns none."""
        if exported.newest is None and exported.rows:
            return newest_rows(self._connection, self.table, statement, at)
        return exported.newest or b""

    def held_by_older_rows(self, added: Sequence[Column], members: Mapping[str, int]) -> list[Column]:
        """Return the added columns, each with the value that older rows hold as ``missing``. For a partitioned table
        the value is read from its partitions, ``members``; a column is left out if their values differ."""
        if self.table.kind != "p" or not added:
            return list(added)
        with self._connection.cursor() as cursor:
            cursor.execute(_MISSING, {"leaves": [int(oid) for oid in members], "names": [c.name for c in added]})
            values = {name: missing for name, missing, alike in cursor.fetchall() if alike}
        return [dataclasses.replace(c, missing=values[c.name]) for c in added if c.name in values]

    def long_values(
        self, columns: Sequence[Column], key: Sequence[str], where: sql.Composable | None, *, longest_row: int
    ) -> tuple[Adjusted, ...]:
        """Return which values of the rows read were changed because they are too long for the warehouse. Raises
        GuardError for a long value that must not be changed (long_values.py)."""
        return long_values.find(
            self._connection, self.table, columns, key, where, longest_row=longest_row, longest=self._longest
        )

    def count(self, where: sql.Composable | None) -> int:
        """Return ``count(*)`` in the observed snapshot."""
        return count_rows(self._connection, self.table, where)

    def version_sums(self, key: Sequence[str], among: Buckets, width: int) -> Sums:
        """Sum row versions by bucket of ``width``, in the observed snapshot (sums.py)."""
        return sums.version_sums(self._connection, self.table, key, among, width)

    def content_sums(self, key: Sequence[str], contents: Sequence[Content], among: Buckets, width: int) -> Sums:
        """Sum the contents of columns by bucket of ``width``, in the observed snapshot (sums.py)."""
        return sums.content_sums(self._connection, self.table, key, contents, among, width, self._longest)

    def sizes(self, leaves: Iterable[str]) -> list[tuple[int, int]]:
        """Return the number of blocks of each leaf that has any, and the bytes of its heap and TOAST table. ``leaves``
        are the keys of ``Token.members``."""
        return chunks.sizes(self._connection, [int(oid) for oid in leaves])

    def key_span(self, key: Sequence[str]) -> int:
        return sums.span(self._connection, self.table, key)

    def explain(self, statement: sql.Composable) -> tuple[str, int]:
        """Return the statement's text, and the planner's estimate of its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement))
            (((plan,),),) = cursor.fetchall()
        return statement.as_string(self._connection), int(plan["Plan"]["Plan Rows"])

    def _before_snapshot(self, fence: FenceReader[Any] | None) -> tuple[int, datetime | None, str | None]:
        """Run the fence's first step. Return the number of prepared transactions, and the oldest writer's start and
        name."""
        with self._connection.cursor() as cursor:
            if fence:
                fence.before(cursor)
            cursor.execute(_OPEN)
            ((prepared, since, name),) = cursor.fetchall()
        return prepared, since, name

    def wire_types(self) -> dict[str, tuple[int, int]]:
        """Return oid and modifier of each column's type, as a change stream names them."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT attname, atttypid, atttypmod FROM pg_attribute"
                " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
                (self.table.oid,),
            )
            return {name: (type_oid, typmod) for name, type_oid, typmod in cursor.fetchall()}

    def _assert_unchanged(self) -> None:
        def definition(table: SourceTable | None) -> Any:
            if table is None:
                return None
            parts = table.columns, table.indexes, table.member_kinds, table.sequences, table.outbox
            return table.oid, table.triggers, table.trigger_version, *parts

        name = self.table.qualified_name
        names = [(self.table.schema, self.table.name)]
        now = catalogue.load(self._connection, names, notes=self.table.notes).get(name)
        if definition(now) != definition(self.table):
            raise altered_meanwhile(self.table)
