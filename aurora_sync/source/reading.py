"""One read of one table: the fence, then the snapshot, then the rows; the order is the proof.

1. Everything that bounds what is still in flight is looked up in statements of its own (correctness.md,
   sections 3 and 4), by the fence that the strategy asked for (fences/).
2. A transaction opens, locks the table ACCESS SHARE *before* its snapshot exists (TRUNCATE and rewriting
   ALTERs are not transactional for older snapshots: behind the lock they wait), and records the snapshot.
3. Rows and counts come from that snapshot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.column import Column
from aurora_sync.model.export import Destination, Exported
from aurora_sync.model.fences import FenceRequest
from aurora_sync.model.observation import Observation
from aurora_sync.model.receipt import Adjusted
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.watermark import Canary, Snapshot, Token
from aurora_sync.source import blockers, catalogue, identity_token, long_values, sums
from aurora_sync.source.canary import newest_rows, read_back
from aurora_sync.source.connection import control_data
from aurora_sync.source.copy_out import Progress, count_rows, select_statement
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.exporter import Exporter
from aurora_sync.source.fences import reader_for
from aurora_sync.source.fences.base import FenceReader, altered_meanwhile
from aurora_sync.source.outbox import changes_statement

# Prepared transactions have left pg_stat_activity; those that wrote in any database hold the horizon.
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
    """Use once, in order: :meth:`observe`, then :meth:`export` and :meth:`count`, all on one connection."""

    def __init__(
        self, connection: Connection, table: SourceTable, kafka: Kafka, exporter: Exporter, longest: int | None
    ) -> None:
        self._longest = longest
        self._connection = connection
        self.table = table
        self._kafka = kafka
        self._exporter = exporter

    def observe(self, request: FenceRequest | None, *, max_minutes: int, last: Token | None = None) -> Observation:
        """The source as of now; afterwards a REPEATABLE READ transaction is open and its snapshot fixed. ``last`` is
        the token of the run before.

        Raises SourceError, transient, when the table's definition changed between the catalogue and the lock.
        """
        fence = reader_for(request, self.table, last, self._kafka) if request else None
        prepared, oldest_writer, name = self._before_snapshot(fence)
        server = control_data(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                # Not by set_config: a SELECT takes the snapshot.
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
        """Lock the table against what is not transactional. Raises SourceError, transient, that names who holds it."""
        name = sql.Identifier(self.table.schema, self.table.name)
        try:
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name))
        except psycopg2.errors.LockNotAvailable as error:
            held = blockers.of_relation(self._connection, self.table.oid, blockers.AGAINST_READERS)
            raise blockers.blocked(error, self.table.qualified_name, held) from error

    def recall(self, columns: Sequence[Column], key: Sequence[str], canaries: Sequence[Canary]) -> tuple[Canary, ...]:
        """Those of the canaries that are still there, as they are now. ``columns`` are the ones they were made of."""
        return read_back(self._connection, self.table, columns, key, canaries, self._longest)

    def statement(
        self, columns: Sequence[Column], where: sql.Composable | None, *, outbox: Outbox | None = None
    ) -> sql.Composed:
        """Selects the rows for which ``where`` holds. With an ``outbox`` it selects the rows that the outbox names, and
        the keys of those that are gone."""
        if outbox:
            return changes_statement(self.table, outbox, columns, self._longest)
        return select_statement(self.table, columns, where, self._longest)

    def export(
        self,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        """Leave what the statement selects in the destination, in the observed snapshot."""
        return self._exporter.export(self._connection, self.table, statement, destination, progress)

    def newest(self, exported: Exported, statement: sql.Composable, at: Snapshot) -> bytes:
        """Rows to pick canaries of, as CSV: the last of what was exported by the statement, or where the exporter does
        not hand them over, what a query finds as the newest."""
        if exported.newest is None and exported.rows:
            return newest_rows(self._connection, self.table, statement, at)
        return exported.newest or b""

    def held_by_older_rows(self, added: Sequence[Column], members: Mapping[str, int]) -> list[Column]:
        """What rows older than these columns hold, as ``missing`` of each; without the columns of which partitions,
        those named in ``members``, hold different values. A partitioned table's own entry says nothing."""
        if self.table.kind != "p" or not added:
            return list(added)
        with self._connection.cursor() as cursor:
            cursor.execute(_MISSING, {"leaves": [int(oid) for oid in members], "names": [c.name for c in added]})
            values = {name: missing for name, missing, alike in cursor.fetchall() if alike}
        return [dataclasses.replace(c, missing=values[c.name]) for c in added if c.name in values]

    def long_values(
        self, columns: Sequence[Column], key: Sequence[str], where: sql.Composable | None, *, longest_row: int
    ) -> tuple[Adjusted, ...]:
        """Of the rows that were read, those that were changed because they were too long for a warehouse. Raises
        GuardError for one that must not be (long_values.py)."""
        return long_values.find(
            self._connection, self.table, columns, key, where, longest_row=longest_row, longest=self._longest
        )

    def count(self, where: sql.Composable | None) -> int:
        """``count(*)`` in the observed snapshot."""
        return count_rows(self._connection, self.table, where)

    def version_sums(self, key: Sequence[str], among: Buckets, width: int) -> Sums:
        """Of the buckets of one width, in the observed snapshot (sums.py)."""
        return sums.version_sums(self._connection, self.table, key, among, width)

    def content_sums(self, key: Sequence[str], forms: Mapping[str, str], among: Buckets, width: int) -> Sums:
        """The same of the columns that ``forms`` names, by their content."""
        return sums.content_sums(self._connection, self.table, key, forms, among, width)

    def key_span(self, key: Sequence[str]) -> int:
        return sums.span(self._connection, self.table, key)

    def explain(self, statement: sql.Composable) -> tuple[str, int]:
        """The statement's text, and the planner's estimate of its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement))
            (((plan,),),) = cursor.fetchall()
        return statement.as_string(self._connection), int(plan["Plan"]["Plan Rows"])

    def _before_snapshot(self, fence: FenceReader[Any] | None) -> tuple[int, datetime | None, str | None]:
        """Prepared transactions of this database; when the oldest transaction that writes began, and whose it is."""
        with self._connection.cursor() as cursor:
            if fence:
                fence.before(cursor)
            cursor.execute(_OPEN)
            ((prepared, since, name),) = cursor.fetchall()
        return prepared, since, name

    def wire_types(self) -> dict[str, tuple[int, int]]:
        """Type and modifier of each column, as a change stream names them."""
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
