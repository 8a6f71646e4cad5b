"""``watermark_type: logical``: every change, deletes included, out of a logical replication slot (pgoutput).

The stream itself is read by stream.py, for all tables of a slot at once. What this strategy plans is the scan that
comes before it: the first read of a table, and every later one that the stream cannot serve (a slot that was lost,
columns that changed, a partition attached). A scan is an increment by the horizon, as of ``xmin``, with a reconcile
for the deletes; it leaves behind which transactions its snapshot had seen, and the stream goes on with all others.
So nothing is read twice that need not be, nobody holds a slot's snapshot open, and a table may come from ``xmin`` and
go back there without being read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.increment import Disposition
from aurora_sync.relation import Fence, Observation, SourceTable
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap

_IDS = 2**32


@dataclass(frozen=True)
class Seen:
    """The transactions that a snapshot had seen: those below ``xmax`` that were not in progress. The ids are 64-bit,
    of transactions and not of their subtransactions, as a stream names them."""

    xmax: int
    in_progress: tuple[int, ...]

    def holds(self, xid: int) -> bool:
        """``xid`` has the 32 bits of the stream.

        >>> Seen(2**32 + 5, (2**32 + 1,)).holds(4), Seen(2**32 + 5, (2**32 + 1,)).holds(1)
        (True, False)
        >>> Seen(2**32 + 5, ()).holds(2**32 - 1), Seen(2**32 + 5, ()).holds(5)
        (True, False)
        """
        behind = (self.xmax - xid) % _IDS  # 0: xmax itself, which had not begun
        return 0 < behind < _IDS // 2 and self.xmax - behind not in self.in_progress


@dataclass(frozen=True)
class Position:
    """How far into a slot's stream a target is. ``lsn``: it has every transaction whose commit ended there or before.
    Besides, after a scan, those that ended by ``until`` and were seen by its snapshot; 0: there was none."""

    slot: str
    lsn: int = 0
    until: int = 0
    seen: Seen | None = None

    def has(self, xid: int, end_lsn: int) -> bool:
        """Whether the target has that transaction already."""
        if end_lsn <= self.lsn:
            return True
        return self.seen is not None and end_lsn <= self.until and self.seen.holds(xid)

    def at(self, lsn: int) -> Position:
        """Once the stream was applied as far as that."""
        return Position(self.slot, lsn) if lsn >= self.until else Position(self.slot, lsn, self.until, self.seen)

    def to_value(self) -> dict[str, Any]:
        seen = self.seen and [self.seen.xmax, list(self.seen.in_progress)]
        return {"slot": self.slot, "lsn": self.lsn, "until": self.until, "seen": seen}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Position:
        seen = value["seen"] and Seen(value["seen"][0], tuple(value["seen"][1]))
        return cls(value["slot"], value["lsn"], value["until"], seen)


class Logical(Strategy):
    name = "logical"
    sees_updates = True
    sees_deletes = True

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        found = not_a_heap(table, "no stream of changes leads from it")
        if table.unlogged:
            found.append(f"{table.qualified_name} is unlogged: its changes are in no stream; use watermark_type: xmin")
        return found

    def fence(self, config: TableConfig) -> Fence | None:
        return Fence("position", "")

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        if since is None:
            return ReadPlan(None, Disposition.REPLACE, "whole table")
        return ReadPlan(since.horizon_scan(at), Disposition.UPSERT, "horizon scan")

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        seen = Seen(at.snapshot.xmax, at.in_progress)
        return Position(config.slot_name, until=at.position, seen=seen).to_value()
