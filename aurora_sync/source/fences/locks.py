"""Fence of strategies/integer.py: the maximum of a column, then the transactions that may be writing the table
(correctness.md, section 3).

The proof rests on this order: each number up to the maximum was assigned to a transaction that is among the holders, or
has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.fences import LockFence, LockRequest
from aurora_sync.model.watermark import Token
from aurora_sync.source import identity_token
from aurora_sync.source.fences.base import FenceReader

# Lock modes that INSERT, UPDATE, DELETE, COPY and stronger statements hold until their transaction ends.
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


@dataclass
class LocksReader(FenceReader[LockRequest]):
    _seen: LockFence = field(init=False)

    def before(self, cursor: Cursor) -> None:
        column, table = sql.Identifier(self.request.column), sql.Identifier(self.table.schema, self.table.name)
        cursor.execute(sql.SQL("SELECT max({}) FROM {}").format(column, table))  # first
        ((high_water,),) = cursor.fetchall()
        cursor.execute(_HOLDERS, (identity_token.relations(cursor, self.table),))  # second
        holders = tuple(holder for (holder,) in cursor.fetchall())
        last_value = None
        sequence = self.table.sequences.get(self.request.column)
        if sequence:
            cursor.execute(_LAST_VALUE, (sequence.name,))
            last_value = next((value for (value,) in cursor.fetchall()), None)
        self._seen = LockFence(high_water, holders, last_value)

    def inside(self, cursor: Cursor, token: Token) -> LockFence:
        return self._seen
