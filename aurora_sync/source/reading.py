"""One read of one table: the fence, then the snapshot, then the rows; the order is the proof.

1. Everything that bounds what is still in flight is looked up in statements of its own (correctness.md,
   sections 3 and 4).
2. A transaction opens, locks the table ACCESS SHARE *before* its snapshot exists (TRUNCATE and rewriting
   ALTERs are not transactional for older snapshots: behind the lock they wait), and records the snapshot.
3. Rows and counts come from that snapshot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.column import Column
from aurora_sync.model.observation import ClockOffset, Fence, Observation, OutboxFence, StreamFence
from aurora_sync.model.receipt import Adjusted
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.watermark import Canary, Snapshot, Token
from aurora_sync.source import blockers, catalogue, long_values, sums
from aurora_sync.source.canary import read_back
from aurora_sync.source.connection import control_data
from aurora_sync.source.copy_out import Progress, Sink, copy_rows, count_rows, select_statement
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.outbox import changes_statement, emptied, is_forged

# Transactions of this database that may have taken a clock value already. Walsenders and workers of other
# databases have another datname; a session that hides its start shows up in the second number. A procedure that
# commits while it runs begins new transactions, and its statement_timestamp() stays that of the CALL.
_CLOCK = """
SELECT least(now(), min(least(xact_start, CASE WHEN state <> 'idle' THEN query_start END))),
       count(*) FILTER (WHERE query = '<insufficient privilege>' OR state = 'disabled' OR xact_start IS NULL AND
                              (state LIKE 'idle in transaction%' OR backend_xid IS NOT NULL)), clock_timestamp()
  FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Modes that INSERT, UPDATE, DELETE, COPY or anything stronger holds until its transaction ends.
_HOLDERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND granted AND relation = ANY(%s)
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND pid IS DISTINCT FROM pg_backend_pid()
   AND mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                'AccessExclusiveLock')
"""

_LAST_VALUE = """
SELECT CASE WHEN has_sequence_privilege(s.seqrelid, 'SELECT') OR has_sequence_privilege(s.seqrelid, 'USAGE')
            THEN coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement) END
  FROM pg_sequence s WHERE s.seqrelid = to_regclass(%s)
"""

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

_SNAPSHOT = """
SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, clock_timestamp(),
       current_setting('server_version_num')::int / 10000,
       (SELECT oid FROM pg_database WHERE datname = current_database()),
       pg_postmaster_start_time()::text, pg_is_in_recovery(),
       coalesce((SELECT stats_reset::text FROM pg_stat_bgwriter), '')
  FROM pg_current_snapshot() s
"""

# What makes the table a part of the publication, and what names its rows there, by the versions of the catalogue's
# rows: ALTER PUBLICATION ... SET and back leaves the same values in another version. A publication of all tables has no
# entry for one, and lets it be UNLOGGED for a while. A slot says with each change by which columns its row was named; a
# topic does not, so there any index that may have been the replica identity meanwhile belongs to it.
_SLOT = """
WITH RECURSIVE tree(oid) AS (
    SELECT %(oid)s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
), identity(version) AS (
    SELECT md5(string_agg(concat_ws(' ', c.oid, c.relreplident, i.indexrelid, i.xmin), ','
                          ORDER BY c.oid, i.indexrelid))
      FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind <> 'p'
      LEFT JOIN pg_index i ON i.indrelid = c.oid
                          AND (i.indisprimary OR i.indisreplident OR i.indisunique AND %(topic)s)
)
SELECT (SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots
         WHERE slot_name = %(name)s AND database = current_database() AND wal_status <> 'lost'),
       (SELECT concat_ws(':', p.oid, p.xmin, r.oid, r.xmin, i.version)
          FROM identity i, pg_publication p
          LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(oid)s
         WHERE p.pubname = %(name)s AND (p.puballtables OR r.oid IS NOT NULL)),
       EXISTS (SELECT FROM pg_publication WHERE pubname = %(name)s AND puballtables)
"""
# Tables that had this table's name when they were published, and may still be sent under it.
_FORMER = """
SELECT c.oid::text, format('%%s.%%s', n.nspname, c.relname)
  FROM pg_publication p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.pubname = %s AND c.oid = ANY(%s::oid[]) AND c.oid <> %s
   AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid))
 ORDER BY 2
"""

# A transaction that has written holds its own id, and until it is visible the lock on what it wrote.
_WRITERS = """
SELECT DISTINCT x.transactionid::text::bigint
  FROM pg_locks l JOIN pg_locks x ON x.virtualtransaction = l.virtualtransaction
 WHERE l.locktype = 'relation' AND l.relation = ANY(%s) AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_POSITION = """
SELECT ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())::text::bigint % 4294967296),
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""

# Leaves that a SELECT of the table reads: one whose DETACH ... CONCURRENTLY waits for readers is still listed, and not
# read any more. The version of its row changes when a leaf is detached and attached again. Servers before PostgreSQL 14
# have no inhdetachpending.
_MEMBERS = """
WITH RECURSIVE tree(oid, attached) AS (
    SELECT %(oid)s::oid, ''
    UNION ALL
    SELECT i.inhrelid, concat_ws(':', nullif(t.attached, ''), i.xmin)
      FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
     WHERE coalesce(to_jsonb(i) ->> 'inhdetachpending', 'false') = 'false'
)
SELECT c.oid, c.relfilenode, string_agg(t.attached, ',' ORDER BY t.attached)
  FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind <> 'p' GROUP BY c.oid, c.relfilenode
"""


# What else than the row decides what a value prints as, of every type that the columns' types are made of: domains,
# arrays, composite types and ranges. Labels of enums, attributes of composite types, and all names that a reg* type may
# print, as one digest for each type. And the versions of the columns, attributes and labels, and of the rows that have
# such names, which an ALTER and another that takes it back change: a stream has the texts of the moment. Superusers
# alone see the versions of roles, whose names a regrole prints (strategies/base.py). What goes by a table's name loses
# its changes while it has another: RENAME and SET SCHEMA make a new version of the row of its type, and leave that row
# alone otherwise.
_NAMES = """
WITH RECURSIVE used(oid) AS (
    SELECT atttypid FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid, LATERAL (
        VALUES (t.typbasetype), (t.typelem)
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
        UNION ALL SELECT atttypid FROM pg_attribute
                   WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) part(oid)
)
, reg(name) AS (
    SELECT t.typname FROM used JOIN pg_type t ON t.oid = used.oid
     WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname LIKE 'reg%%'
)
SELECT 'columns', '', md5(string_agg(concat_ws(' ', owner, part, version), ',' ORDER BY owner, part)) FROM (
    SELECT attrelid, attnum::bigint, xmin FROM pg_attribute WHERE attnum > 0 AND attrelid IN (
        SELECT %s::oid UNION ALL SELECT t.typrelid FROM used JOIN pg_type t ON t.oid = used.oid AND t.typtype = 'c')
    UNION ALL
    SELECT enumtypid, e.oid::bigint, e.xmin FROM used JOIN pg_enum e ON e.enumtypid = used.oid
    UNION ALL
    SELECT n.tableoid, n.oid::bigint, n.xmin FROM pg_namespace n
     WHERE n.nspname NOT LIKE 'pg\\_t%%' AND EXISTS (SELECT FROM reg WHERE name <> 'regrole')
    UNION ALL
    SELECT c.tableoid, c.oid::bigint, c.xmin FROM pg_class c
     WHERE c.relpersistence <> 't' AND EXISTS (SELECT FROM reg WHERE name = 'regclass')
    UNION ALL
    SELECT p.tableoid, p.oid::bigint, p.xmin FROM pg_proc p
     WHERE EXISTS (SELECT FROM reg WHERE name IN ('regproc', 'regprocedure'))
    UNION ALL
    SELECT o.tableoid, o.oid::bigint, o.xmin FROM pg_operator o
     WHERE EXISTS (SELECT FROM reg WHERE name IN ('regoper', 'regoperator'))
    UNION ALL
    SELECT y.tableoid, y.oid::bigint, y.xmin FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
     WHERE n.nspname NOT LIKE 'pg\\_t%%'
       AND EXISTS (SELECT FROM reg WHERE name IN ('regtype', 'regprocedure', 'regoperator'))
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_ts_config x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regconfig')
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_ts_dict x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regdictionary')
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_collation x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regcollation')
) row(owner, part, version)
UNION ALL
SELECT 'label', e.oid::text, e.enumlabel FROM used JOIN pg_enum e ON e.enumtypid = used.oid
UNION ALL
SELECT 'type', t.oid::text, (SELECT string_agg(format('%%s %%s', attnum, atttypid), ',' ORDER BY attnum)
                               FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped)
  FROM used JOIN pg_type t ON t.oid = used.oid AND t.typtype = 'c'
UNION ALL
SELECT 'type', t.oid::text, CASE
    WHEN t.typname = 'regclass' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', c.oid, c.relname, n.nspname), ',' ORDER BY c.oid))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence <> 't')
    WHEN t.typname = 'regprocedure' THEN (
        SELECT md5(string_agg(format('%%s %%s', p.oid, p.oid::regprocedure), ',' ORDER BY p.oid)) FROM pg_proc p)
    WHEN t.typname = 'regoperator' THEN (
        SELECT md5(string_agg(format('%%s %%s', o.oid, o.oid::regoperator), ',' ORDER BY o.oid)) FROM pg_operator o)
    WHEN t.typname = 'regproc' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', p.oid, p.proname, n.nspname), ',' ORDER BY p.oid))
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace)
    WHEN t.typname = 'regoper' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', o.oid, o.oprname, n.nspname), ',' ORDER BY o.oid))
          FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace)
    WHEN t.typname = 'regtype' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', y.oid, y.typname, n.nspname), ',' ORDER BY y.oid))
          FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = y.typrelid AND c.relpersistence = 't'))
    WHEN t.typname = 'regrole' THEN (
        SELECT md5(string_agg(format('%%s %%s', oid, rolname), ',' ORDER BY oid)) FROM pg_roles)
    WHEN t.typname = 'regnamespace' THEN (
        SELECT md5(string_agg(format('%%s %%s', oid, nspname), ',' ORDER BY oid)) FROM pg_namespace
         WHERE nspname NOT LIKE 'pg\\_t%%')
    ELSE (SELECT md5(string_agg(format('%%s %%s', oid, name), ',' ORDER BY oid))
            FROM (SELECT oid, cfgname AS name FROM pg_ts_config UNION ALL SELECT oid, dictname FROM pg_ts_dict
                  UNION ALL SELECT oid, collname FROM pg_collation) others) END
  FROM used JOIN pg_type t ON t.oid = used.oid
 WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname LIKE 'reg%%'
UNION ALL
SELECT 'named', '', concat_ws(':', t.xmin, n.xmin)
  FROM pg_class c JOIN pg_type t ON t.oid = c.reltype JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""

_MISSING = """
SELECT attname, min((attmissingval::text::text[])[1]),
       count(DISTINCT (attmissingval::text::text[])[1]) + count(DISTINCT attmissingval IS NULL) = 2
       OR count(attmissingval) = 0
  FROM pg_attribute WHERE attrelid = ANY(%(leaves)s::oid[]) AND attname = ANY(%(names)s) AND NOT attisdropped
 GROUP BY attname
"""


class Reading:
    """Use once, in order: :meth:`observe`, then :meth:`copy` and :meth:`count`, all on one connection."""

    def __init__(self, connection: Connection, table: SourceTable, kafka: Kafka) -> None:
        self._connection = connection
        self.table = table
        self._kafka = kafka

    def observe(self, fence: Fence | None, *, max_minutes: int, last: Token | None = None) -> Observation:
        """The source as of now; afterwards a REPEATABLE READ transaction is open and its snapshot fixed. ``last`` is
        the token of the run before.

        Raises SourceError, transient, when the table's definition changed between the catalogue and the lock.
        """
        streamed = fence is not None and fence.kind == "stream"
        names_before = self._names() if streamed else []  # before the writers are looked up
        before = self._before_snapshot(fence, last, _version(names_before, "named"))
        system_identifier, timeline = control_data(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                # Not by set_config: a SELECT takes the snapshot.
                cursor.execute(f"SET LOCAL {limit} TO '{max_minutes:d}min'")
            if self.table.kind in "rpv":  # the kinds that LOCK TABLE takes
                self._lock(cursor)
            asked = datetime.now(UTC)
            xmin, xmax, now, major, database_oid, started, in_recovery, counters_since = _one(cursor, _SNAPSHOT)
            offset = ClockOffset.of(asked, now, datetime.now(UTC))
            cursor.execute(_MEMBERS, {"oid": self.table.oid})
            leaves = cursor.fetchall()
            names = self._names()
            if streamed:
                in_progress, position = _one(cursor, _POSITION)
                before["stream"] = dataclasses.replace(
                    before["stream"], in_progress=tuple(in_progress), position=int(position)
                )
            if fence and fence.kind == "outbox" and self.table.outbox:
                (snapshot,) = _one(cursor, "SELECT pg_current_snapshot()::text")
                before["outbox"] = OutboxFence(
                    snapshot,
                    emptied(self._connection, self.table.outbox),
                    forged=is_forged(self._connection, self.table, self.table.outbox),
                )
        self._assert_unchanged()
        if streamed and _version(names_before, "columns") != _version(names, "columns"):
            raise self._changed()
        return Observation(
            snapshot=Snapshot(xmin, xmax, now),
            token=Token(
                system_identifier=system_identifier,
                timeline=timeline,
                major=major,
                database_oid=database_oid,
                started=started,
                in_recovery=in_recovery,
                table_oid=self.table.oid,
                members={str(oid): filenode for oid, filenode, _ in leaves},
                attached={str(oid): attached for oid, _, attached in leaves if attached},
                counters_since=counters_since,
                labels={oid: name for kind, oid, name in names if kind == "label"},
                types={oid: name for kind, oid, name in names if kind == "type"},
                columns=_version(names, "columns"),
                named=_version(names, "named"),
                attributes=max((column.attnum for column in self.table.columns), default=0),
                former=before["stream"].former if "stream" in before else {},
            ),
            offset=offset,
            **before,
        )

    def _lock(self, cursor: Any) -> None:
        """Lock the table against what is not transactional. Raises SourceError, transient, that names who holds it."""
        name = sql.Identifier(self.table.schema, self.table.name)
        try:
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name))
        except psycopg2.errors.LockNotAvailable as error:
            held = blockers.of_relation(self._connection, self.table.oid, blockers.AGAINST_READERS)
            raise blockers.blocked(error, self.table.qualified_name, held) from error

    def recall(self, columns: Sequence[Column], key: Sequence[str], canaries: Sequence[Canary]) -> tuple[Canary, ...]:
        """Those of the canaries that are still there, as they are now. ``columns`` are the ones they were made of."""
        return read_back(self._connection, self.table, columns, key, canaries)

    def copy(
        self,
        columns: Sequence[Column],
        where: sql.Composable | None,
        sink: Sink,
        progress: Callable[[Progress], None] | None = None,
        *,
        outbox: Outbox | None = None,
    ) -> int:
        """Write the rows as CSV, in the observed snapshot. Returns how many. Of an ``outbox`` the rows that it names,
        and the keys of those that are gone, instead."""
        if outbox:
            statement = changes_statement(self.table, outbox, columns)
        else:
            statement = select_statement(self.table, columns, where)
        return copy_rows(self._connection, self.table, statement, sink, progress=progress)

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
        return long_values.find(self._connection, self.table, columns, key, where, longest_row=longest_row)

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

    def explain(self, columns: Sequence[Column], where: sql.Composable | None) -> tuple[str, int]:
        """The statement that :meth:`copy` would run, and the planner's estimate of its rows."""
        statement = select_statement(self.table, columns, where)
        with self._connection.cursor() as cursor:
            ((plan,),) = _one(cursor, sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement))
        return statement.as_string(self._connection), int(plan["Plan"]["Plan Rows"])

    def _before_snapshot(self, fence: Fence | None, last: Token | None, named: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with self._connection.cursor() as cursor:
            if fence and fence.kind == "stream":
                found["stream"] = self._stream(cursor, fence, last, named)
            if fence and fence.kind == "locks":
                column = sql.Identifier(fence.name)
                table = sql.Identifier(self.table.schema, self.table.name)
                found["high_water"] = _one(cursor, sql.SQL("SELECT max({}) FROM {}").format(column, table))[0]  # first
                cursor.execute(_HOLDERS, (self._relations(cursor),))  # second
                found["lock_holders"] = tuple(holder for (holder,) in cursor.fetchall())
                sequence = self.table.sequences.get(fence.name)
                if sequence:
                    found["sequence_last_value"] = _one(cursor, _LAST_VALUE, (sequence.name,))[0]
            if fence and fence.kind == "clock":
                asked = datetime.now(UTC)
                found["clock_fence"], found["hidden_sessions"], now = _one(cursor, _CLOCK)
                found["offset_at_fence"] = ClockOffset.of(asked, now, datetime.now(UTC))
            found["prepared_transactions"], found["oldest_writer"], name = _one(cursor, _OPEN)
            found["oldest_writer_name"] = name or ""
        return found

    def _names(self) -> list[tuple[str, str, str]]:
        with self._connection.cursor() as cursor:
            cursor.execute(_NAMES, (self.table.oid,) * 3)
            return cursor.fetchall()

    def _relations(self, cursor: Any) -> list[int]:
        """Oids of the table and its leaves."""
        cursor.execute(_MEMBERS, {"oid": self.table.oid})
        return [self.table.oid, *(oid for oid, *_ in cursor.fetchall())]

    def _stream(self, cursor: Any, fence: Fence, last: Token | None, named: str) -> StreamFence:
        """As it is before the snapshot. Raises SourceError where nothing publishes the table, or no slot sends what is
        published: unless it is a topic that is read, which others fill."""
        cursor.execute(_SLOT, {"name": fence.name, "oid": self.table.oid, "topic": bool(fence.topic)})
        ((confirmed, member, all_tables),) = cursor.fetchall()
        if member is None or (confirmed is None and not fence.topic):
            missing = f"publication {fence.name} does not have the table"
            raise SourceError(
                missing if member is None else f"there is no replication slot {fence.name}",
                where=self.table.qualified_name,
                hint="`aurora-sync cdc setup` shows what is missing, and makes it",
            )
        cursor.execute(_WRITERS, (self._relations(cursor),))
        writers = tuple(xid for (xid,) in cursor.fetchall())
        extents, former = {}, dict[str, str]()
        if fence.topic:
            member = f"{member}:{named}"
            known = [str(last.table_oid), *last.former] if last else []
            cursor.execute(_FORMER, (fence.name, [int(oid) for oid in known], self.table.oid))
            former = dict(cursor.fetchall())
            with self._kafka.topic(fence.topic) as topic:
                extents = {number: (extent.low, extent.high) for number, extent in topic.extents.items()}
        return StreamFence(
            int(confirmed or 0),
            member,
            writers,
            in_progress=(),
            position=0,
            lost=confirmed is None,
            extents=extents,
            all_tables=all_tables,
            former=former,
        )

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
            raise self._changed()

    def _changed(self) -> SourceError:
        return SourceError(
            "the table's definition changed while the read began",
            where=self.table.qualified_name,
            hint="another session alters it: run again when its ALTER, CREATE or DROP has ended",
            kind=Kind.TRANSIENT,
        )


def _version(names: list[tuple[str, str, str]], kind: str) -> str:
    """One of the versions that :data:`_NAMES` found."""
    return next((name for each, _, name in names if each == kind), "") or ""


def _one(cursor: Any, query: Any, parameters: Any = None) -> Any:
    cursor.execute(query, parameters)
    return cursor.fetchone()
