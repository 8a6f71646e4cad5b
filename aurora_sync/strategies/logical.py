"""``watermark_type: logical``: every change, deletes included, out of a logical replication slot (pgoutput).

The stream itself is read by stream.py, for all tables of a slot at once. What this strategy plans is the scan that
comes before it: the first read of a table, and every later one that the stream cannot serve. A scan is an increment by
the horizon, as of ``xmin``, with a reconcile for the deletes; it leaves behind which transactions its snapshot had
seen, and the stream goes on with all others. So nothing is read twice that need not be, nobody holds a slot's snapshot
open, and a table may come from ``xmin`` and go back there without being read whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import DefectError
from aurora_sync.increment import Disposition, Finding, Watermark
from aurora_sync.relation import Fence, Observation, SourceTable, StreamFence
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap

_IDS = 2**32
# What a stream goes on over. A TRUNCATE is one of its changes, and so is what a partition gets by INSERT.
_STREAMED = {"long transaction", "restart", "table renamed"}


@dataclass(frozen=True)
class Seen:
    """The transactions that a snapshot had seen: those below ``xmax`` that were not in progress. ``in_progress`` has
    32-bit ids, of transactions and not of their subtransactions, as a stream names them."""

    xmax: int
    in_progress: tuple[int, ...]

    def holds(self, xid: int) -> bool:
        """``xid`` has the 32 bits of the stream.

        >>> Seen(2**32 + 5, (1,)).holds(4), Seen(2**32 + 5, (1,)).holds(1)
        (True, False)
        >>> Seen(2**32 + 5, ()).holds(2**32 - 1), Seen(2**32 + 5, ()).holds(5)
        (True, False)
        """
        behind = (self.xmax - xid) % _IDS  # 0: xmax itself, which had not begun
        return 0 < behind < _IDS // 2 and xid not in self.in_progress


@dataclass(frozen=True)
class Position:
    """How far into a slot's stream a target is.

    It has every transaction whose commit ended at ``lsn`` or before; and after a scan those that ended by ``until``
    and were seen by its snapshot. ``blind`` are transactions that may have written the table before it was a
    ``member`` of the publication, when the first scan did not see them: the stream has only a part of them.
    """

    slot: str
    member: str
    lsn: int
    until: int = 0  # 0: there was no scan since
    seen: Seen | None = None
    blind: tuple[int, ...] = ()

    def has(self, commit_lsn: int, xid: int) -> bool:
        """Whether the target has the transaction whose commit record starts there."""
        if commit_lsn < self.lsn:
            return True
        return self.seen is not None and commit_lsn < self.until and self.seen.holds(xid)

    def at(self, lsn: int) -> Position:
        """Once the stream was applied as far as that."""
        return Position(self.slot, self.member, lsn) if lsn >= self.until else replace(self, lsn=lsn)

    def to_value(self) -> dict[str, Any]:
        seen = self.seen and [self.seen.xmax, list(self.seen.in_progress)]
        return vars(self) | {"seen": seen, "blind": list(self.blind)}

    @classmethod
    def of(cls, watermark: Watermark | None) -> Position | None:
        """None where another strategy left the watermark."""
        if watermark is None or watermark.strategy != Logical.name:
            return None
        value = watermark.value
        seen = value["seen"] and Seen(value["seen"][0], tuple(value["seen"][1]))
        return cls(**value | {"seen": seen, "blind": tuple(value["blind"])})


class Logical(Strategy):
    name = "logical"
    sees_updates = True
    sees_deletes = True
    keeps_xmin = False

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        found = not_a_heap(table, "no stream of changes leads from it")
        if table.unlogged:
            found.append(f"{table.qualified_name} is unlogged: its changes are in no stream; use watermark_type: xmin")
        return found

    def fence(self, config: TableConfig) -> Fence | None:
        return Fence("stream", config.slot_name)

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        if since is None:
            return ReadPlan(None, Disposition.REPLACE, "whole table")
        return ReadPlan(since.horizon_scan(at), Disposition.UPSERT, "horizon scan")

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """The position after a scan."""
        fence = _fence(at)
        before = Position.of(since.watermark if since else None)
        blind = before.blind if before and _goes_on(before, config, fence) else fence.writers
        return Position(
            config.slot_name,
            fence.member,
            fence.confirmed,
            until=fence.position,
            seen=Seen(at.snapshot.xmax, fence.in_progress),
            blind=tuple(xid for xid in blind if xid in fence.in_progress),
        ).to_value()


def why_scan(
    config: TableConfig,
    table: SourceTable,
    watermark: Watermark | None,
    findings: tuple[Finding, ...],
    at: Observation,
) -> str:
    """Why the stream cannot bring the target up to date; empty where it can. ``watermark`` is None where the stored
    one was found to be of no use."""
    fence, position = _fence(at), Position.of(watermark)
    if position is None:
        return "there is no position in the stream yet"
    if not _goes_on(position, config, fence):
        return "the slot, or what it publishes, is not as the last run left it"
    if position.blind:
        return f"transactions were open when the table was published: {', '.join(map(str, position.blind))}"
    streamed = _STREAMED if table.kind == "p" else _STREAMED | {"files replaced"}
    for found in findings:
        if found.event == "restart" and position.until > position.lsn:
            return found.text  # of what the scan saw, something may have been lost, and its ids used again
        if found.event not in streamed:
            return found.text
    return ""


def _goes_on(position: Position, config: TableConfig, fence: StreamFence) -> bool:
    """Whether the slot still has everything that comes after the position."""
    return (position.slot, position.member) == (config.slot_name, fence.member) and fence.confirmed <= position.lsn


def _fence(at: Observation) -> StreamFence:
    if at.stream is None:
        raise DefectError("the slot was not looked at before the snapshot")
    return at.stream
