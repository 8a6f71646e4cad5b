"""Fence of strategies/streaming.py: the positions of the slot and of the topic, and the writers of the table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from psycopg2.extensions import cursor as Cursor

from aurora_sync.errors import SourceError
from aurora_sync.model.fences import SlotFence, SlotRequest
from aurora_sync.model.watermark import Token
from aurora_sync.source import identity_token
from aurora_sync.source.fences.base import FenceReader, altered_meanwhile
from aurora_sync.source.identity_token import Names

# The table's membership in the publication, and its replica identity, as versions (xmin) of the catalogue's rows: an
# ALTER PUBLICATION ... SET that is reverted leaves equal values in new versions. A publication of all tables has no
# entry per table, and a table in it may be UNLOGGED for a while. Each change of a slot says which columns identify its
# row. A change of a topic does not, so for a topic every index that may have been the replica identity is included.
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
# Published tables that had this table's name before. Their changes may still be sent under that name.
_FORMER = """
SELECT c.oid::text, format('%%s.%%s', n.nspname, c.relname)
  FROM pg_publication p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.pubname = %s AND c.oid = ANY(%s::oid[]) AND c.oid <> %s
   AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid))
 ORDER BY 2
"""

# A transaction that has written locks its own id, and until it is visible also the tables that it wrote.
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


@dataclass
class SlotReader(FenceReader[SlotRequest]):
    _names: Names = field(init=False)
    _seen: SlotFence = field(init=False)

    def before(self, cursor: Cursor) -> None:
        """Look up the slot, the publication and the writers. Raises SourceError if the publication lacks the table,
        or if the slot is missing. A topic needs no slot, because another program fills it."""
        self._names = Names.read(cursor, self.table)  # before the writers are looked up
        slot, topic = self.request.slot, self.request.topic
        cursor.execute(_SLOT, {"name": slot, "oid": self.table.oid, "topic": bool(topic)})
        ((confirmed, member, all_tables),) = cursor.fetchall()
        if member is None or (confirmed is None and not topic):
            missing = f"publication {slot} does not include the table"
            raise SourceError(
                missing if member is None else f"replication slot {slot} does not exist",
                where=self.table.qualified_name,
                hint="`aurora-sync cdc setup` shows and creates the missing objects",
            )
        cursor.execute(_WRITERS, (identity_token.relations(cursor, self.table),))
        self._seen = SlotFence(
            int(confirmed or 0),
            member,
            writers=tuple(xid for (xid,) in cursor.fetchall()),
            in_progress=(),
            position=0,
            lost=confirmed is None,
            all_tables=all_tables,
        )
        if topic:
            self._look_at_topic(cursor)

    def _look_at_topic(self, cursor: Cursor) -> None:
        slot, topic = self.request.slot, self.request.topic
        known = [str(self.last.table_oid), *self.last.former] if self.last else []
        cursor.execute(_FORMER, (slot, [int(oid) for oid in known], self.table.oid))
        former = dict(cursor.fetchall())
        with self.kafka.topic(topic) as read:
            extents = {number: (extent.low, extent.high) for number, extent in read.extents.items()}
        member = f"{self._seen.member}:{self._names.named}"
        self._seen = replace(self._seen, member=member, extents=extents, former=former)

    def inside(self, cursor: Cursor, token: Token) -> SlotFence:
        """Add the position of the snapshot. Raises SourceError, transient, if a type was altered after before()."""
        cursor.execute(_POSITION)
        ((in_progress, position),) = cursor.fetchall()
        if self._names.columns != token.columns:
            raise altered_meanwhile(self.table)
        return replace(self._seen, in_progress=tuple(in_progress), position=int(position))

    @property
    def former(self) -> dict[str, str]:
        return self._seen.former
