"""Fence of strategies/clock.py: the start of the oldest open transaction (correctness.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.fences import ClockFence, ClockOffset, ClockRequest
from aurora_sync.model.watermark import Token
from aurora_sync.source.fences.base import FenceReader

# Transactions of this database that may have taken a clock value already. Walsenders and workers of other databases
# have another datname. The second number counts sessions that hide their start. A procedure that commits while it runs
# begins new transactions, but its statement_timestamp() stays that of the CALL.
_CLOCK = """
SELECT least(now(), min(least(xact_start, CASE WHEN state <> 'idle' THEN query_start END))),
       count(*) FILTER (WHERE query = '<insufficient privilege>' OR state = 'disabled' OR xact_start IS NULL AND
                              (state LIKE 'idle in transaction%' OR backend_xid IS NOT NULL)), clock_timestamp()
  FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass
class ClockReader(FenceReader[ClockRequest]):
    _seen: ClockFence = field(init=False)

    def before(self, cursor: Cursor) -> None:
        asked = datetime.now(UTC)
        cursor.execute(_CLOCK)
        ((opened, hidden, now),) = cursor.fetchall()
        self._seen = ClockFence(opened, ClockOffset.of(asked, now, datetime.now(UTC)), hidden)

    def inside(self, cursor: Cursor, token: Token) -> ClockFence:
        return self._seen
