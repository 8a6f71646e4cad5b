"""The common base of the strategies that read a stream of changes: the scan before the stream, and the transition.

engine/runners reads the stream. These strategies plan the scan: the first read of a table, and every later read for
which the stream is not enough. A scan is an increment by the horizon, as under ``xmin``, with a reconcile for the
deletes. It stores which transactions its snapshot saw, and the stream continues with all others. So no change is read
twice without need, no snapshot of a slot is held open, and a table may change from ``xmin`` to a stream and back
without being read whole.
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

# The first major version whose sessions of logical replication notice that a partition was attached or detached.
NOTICES_PARTITIONS = 15
_IDS = 2**32
# Findings after which a stream is still complete. A new partition is not among them: it may have been attached with
# rows that no stream has.
_STREAMED = {"long transaction", "restart", "table renamed"}


@dataclass(frozen=True)
class Seen:
    """The transactions that a snapshot saw: all below ``xmax`` that were not in progress. ``in_progress`` has 32-bit
    ids of top-level transactions, as a stream has them."""

    xmax: int
    in_progress: tuple[int, ...]

    def holds(self, xid: int) -> bool:
        """Return whether the snapshot saw the transaction with this 32-bit id.

        >>> Seen(2**32 + 5, (1,)).holds(4), Seen(2**32 + 5, (1,)).holds(1)
        (True, False)
        >>> Seen(2**32 + 5, ()).holds(2**32 - 1), Seen(2**32 + 5, ()).holds(5)
        (True, False)
        """
        behind = (self.xmax - xid) % _IDS  # 0: xid is xmax itself, which had not begun
        return 0 < behind < _IDS // 2 and xid not in self.in_progress


@dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """The part of a target's position in a stream that results from the last scan; subclasses add the rest.

    After a scan the target has every transaction that ended by ``until`` and was seen by the scan's snapshot. ``blind``
    are transactions that the scan did not see and whose changes in the stream are not enough: they may have written the
    table before it was a ``member`` of the publication, or with labels and attributes of types that were altered since.
    """

    slot: str
    member: str
    until: int = 0  # LSN; 0: the stream has passed the last scan
    seen: Seen | None = None
    blind: tuple[int, ...] = ()

    def was_scanned(self, lsn: int, xid: int) -> bool:
        """Return whether the last scan has the change of transaction ``xid`` at ``lsn``, which is the place of the
        change or of the commit."""
        return self.seen is not None and lsn < self.until and self.seen.holds(xid)

    @property
    @abstractmethod
    def method(self) -> str:
        """The method by which changes are found, in words."""

    @property
    @abstractmethod
    def statement(self) -> str:
        """The request to the stream, for people and logs."""

    @property
    def gap(self) -> str:
        """The reason why the stream does not have all changes after the position; empty when it has."""
        return ""

    @property
    def bound(self) -> str:
        """The point up to which the target is complete, in words; empty when that is the moment of the run."""
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
        found = not_a_heap(table, "logical decoding has no changes of it")
        if table.unlogged:
            found.append(f"{table.qualified_name} is unlogged: its changes are in no stream; use watermark_type: xmin")
        return found

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return replace(scan(since, at), log_position=at.seen(SlotFence).position)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """Return the value of the position after a scan."""
        fence = at.seen(SlotFence)
        before = self.position_in(since.watermark if since else None)
        goes_on = before is not None and self._goes_on(before, config, fence)
        # ALTER TABLE waits for transactions that have written the table; ALTER TYPE does not.
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
        """Return the position in a watermark, None when another strategy wrote it."""
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
        """Return why the stream cannot bring the target up to date; empty when it can. ``watermark`` is None when the
        stored one is not valid any more."""
        fence, position = at.seen(SlotFence), self.position_in(watermark)
        if position is None:
            return "the watermark has no position in the stream yet"
        if not self._goes_on(position, config, fence):
            return f"{self.stream}, or the publication, has changed since the last run"
        if position.gap:
            return position.gap
        if position.blind:
            open_ = ", ".join(map(str, position.blind))
            return f"transactions were open when the table was published or a type was altered: {open_}"
        assert watermark  # a position comes from a watermark
        # ALTER ... TYPE ... USING changes every row, and no stream has these changes, even if the type stays the same.
        if why := outdated(watermark.token, at.token):
            return why
        # The columns are unchanged here. So the files of a plain table were replaced by TRUNCATE, which the stream has,
        # by VACUUM FULL or CLUSTER, which change no row, or by SET UNLOGGED, which PostgreSQL refuses for a table that
        # a publication names.
        streamed = _STREAMED if table.kind == "p" or fence.all_tables else _STREAMED | {"files replaced"}
        for found in findings:
            if found.event == "restart" and self._in_doubt(position):
                return found.text  # the server may have lost changes that the scan saw, and reuse their ids
            if found.event not in streamed:
                return found.text
        return ""

    stream: str  # the name of the stream in messages

    @abstractmethod
    def _goes_on(self, position: StreamPosition, config: TableConfig, fence: SlotFence) -> bool:
        """Return whether the stream still has all changes after the position."""

    @abstractmethod
    def _in_doubt(self, position: StreamPosition) -> bool:
        """Return whether the stream has not passed the last scan yet."""

    @abstractmethod
    def _scanned(
        self, config: TableConfig, fence: SlotFence, before: StreamPosition | None, **shared: Any
    ) -> StreamPosition:
        """Return the position after a scan. ``before`` is the last position, None when the stream cannot continue from
        it. ``shared`` are the fields of :class:`StreamPosition`."""
