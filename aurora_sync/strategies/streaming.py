"""What the strategies that read a stream of changes share: the scan before the stream, and how one hands over to the
other.

The stream itself is read by engine/runners. What these strategies plan is the scan that comes before it: the
first read of a table, and every later one that the stream cannot serve. A scan is an increment by the horizon, as of
``xmin``, with a reconcile for the deletes; it leaves behind which transactions its snapshot had seen, and the stream
goes on with all others. So nothing is read twice that need not be, nobody holds a slot's snapshot open, and a table may
come from ``xmin`` and go back there without being read whole.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Finding
from aurora_sync.model.fences import SlotFence
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap, outdated, scan

_IDS = 2**32
# What a stream goes on over. What a partition gets by INSERT is one of its changes.
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


@dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """How far into the stream of a slot a target is, beyond what a subclass says.

    After a scan it has every transaction that ended by ``until`` and was seen by the scan's snapshot. ``blind`` are
    transactions that the scan did not see and of which the stream is not enough: they may have written the table before
    it was a ``member`` of the publication, or with labels and attributes of types that were altered since.
    """

    slot: str
    member: str
    until: int = 0  # LSN; 0: there was no scan since
    seen: Seen | None = None
    blind: tuple[int, ...] = ()

    def was_scanned(self, lsn: int, xid: int) -> bool:
        """Whether a scan has what that transaction wrote there, or committed there."""
        return self.seen is not None and lsn < self.until and self.seen.holds(xid)

    @property
    @abstractmethod
    def method(self) -> str:
        """How changes are found, in words."""

    @property
    @abstractmethod
    def statement(self) -> str:
        """What the stream is asked for."""

    @property
    def gap(self) -> str:
        """Why the stream was found not to have everything that comes after the position; empty where it has."""
        return ""

    @property
    def bound(self) -> str:
        """Up to what the target is complete, where that is not the moment of the run."""
        return ""

    def to_value(self) -> dict[str, Any]:
        seen = self.seen and [self.seen.xmax, list(self.seen.in_progress)]
        return vars(self) | {"seen": seen, "blind": list(self.blind)}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Self:
        seen = value["seen"] and Seen(value["seen"][0], tuple(value["seen"][1]))
        return cls(**value | {"seen": seen, "blind": tuple(value["blind"])})


class Streaming(Strategy):
    sees_updates = True
    sees_deletes = True
    keeps_xmin = False
    uses_slot = True
    position: type[StreamPosition]

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        found = not_a_heap(table, "no stream of changes leads from it")
        if table.unlogged:
            found.append(f"{table.qualified_name} is unlogged: its changes are in no stream; use watermark_type: xmin")
        return found

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return replace(scan(since, at), log_position=at.seen(SlotFence).position)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """The position after a scan."""
        fence = at.seen(SlotFence)
        before = self.position_in(since.watermark if since else None)
        goes_on = before is not None and self._goes_on(before, config, fence)
        # No table is altered while a transaction has written it; a type may be.
        renamed = at.token.is_named and (since is None or since.watermark.token.columns != at.token.columns)
        blind = before.blind if before and goes_on and not renamed else fence.writers
        return self._scanned(
            config,
            fence,
            before if goes_on else None,
            slot=config.slot_name,
            member=fence.member,
            until=fence.position,
            seen=Seen(at.snapshot.xmax, fence.in_progress),
            blind=tuple(xid for xid in blind if xid in fence.in_progress),
        ).to_value()

    def position_in(self, watermark: Watermark | None) -> StreamPosition | None:
        """None where another strategy left the watermark."""
        if watermark is None or watermark.strategy != self.name:
            return None
        return self.position.from_value(watermark.value)

    def why_scan(
        self,
        config: TableConfig,
        table: SourceTable,
        watermark: Watermark | None,
        findings: tuple[Finding, ...],
        at: Observation,
    ) -> str:
        """Why the stream cannot bring the target up to date; empty where it can. ``watermark`` is None where the stored
        one was found to be of no use."""
        fence, position = at.seen(SlotFence), self.position_in(watermark)
        if position is None:
            return "there is no position in the stream yet"
        if not self._goes_on(position, config, fence):
            return f"{self.stream}, or what it publishes, is not as the last run left it"
        if position.gap:
            return position.gap
        if position.blind:
            open_ = ", ".join(map(str, position.blind))
            return f"transactions were open when the table was published, or a type was altered: {open_}"
        assert watermark  # else there was no position
        # ALTER ... TYPE ... USING changes every row, and no stream brings that; the type may be the same again.
        if why := outdated(watermark.token, at.token):
            return why
        # Then TRUNCATE, which is one of the stream's changes, VACUUM FULL and CLUSTER are what replaces the files of a
        # plain table, and SET UNLOGGED, which a publication that names the table does not allow.
        streamed = _STREAMED if table.kind == "p" or fence.all_tables else _STREAMED | {"files replaced"}
        for found in findings:
            if found.event == "restart" and self._in_doubt(position):
                return found.text  # of what the scan saw, something may have been lost, and its ids used again
            if found.event not in streamed:
                return found.text
        return ""

    stream: str  # what it is called, for a person

    @abstractmethod
    def _goes_on(self, position: StreamPosition, config: TableConfig, fence: SlotFence) -> bool:
        """Whether the stream still has everything that comes after the position."""

    @abstractmethod
    def _in_doubt(self, position: StreamPosition) -> bool:
        """Whether the stream has not passed the last scan yet."""

    @abstractmethod
    def _scanned(
        self, config: TableConfig, fence: SlotFence, before: StreamPosition | None, **shared: Any
    ) -> StreamPosition:
        """The position after a scan; ``before`` None where the stream cannot go on from the last one."""
