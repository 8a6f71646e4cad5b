"""``watermark_type: logical``: every change, deletes included, from a logical replication slot (pgoutput).

engine/runners/slot.py reads the slot, for all its tables at once. The scan before the stream is in streaming.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.fences import SlotFence, SlotRequest
from aurora_sync.model.observation import Observation
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.streaming import Streaming, StreamPosition


@dataclass(frozen=True, kw_only=True)
class SlotPosition(StreamPosition):
    """A position in a slot: the target has every transaction whose commit record ended at ``lsn`` or before."""

    lsn: int

    @property
    def method(self) -> str:
        return f"stream of slot {self.slot}"

    @property
    def statement(self) -> str:
        return f"START_REPLICATION SLOT {self.slot} LOGICAL 0/0 (publication_names '{self.slot}')"

    def has(self, commit_lsn: int, xid: int) -> bool:
        """Return whether the target has the transaction ``xid``, whose commit record starts at ``commit_lsn``."""
        return commit_lsn < self.lsn or self.was_scanned(commit_lsn, xid)

    def at(self, lsn: int) -> SlotPosition:
        """Return the position after the stream was applied up to ``lsn``. Once the stream has passed the last scan, the
        facts about that scan are dropped."""
        if lsn >= self.until:
            return SlotPosition(slot=self.slot, member=self.member, lsn=lsn)
        return replace(self, lsn=lsn)


class Logical(Streaming):
    name = "logical"
    stream = "the slot"
    position = SlotPosition

    def fence(self, config: TableConfig) -> SlotRequest:
        return SlotRequest(config.slot_name)

    def _goes_on(self, position: StreamPosition, config: TableConfig, fence: SlotFence) -> bool:
        assert isinstance(position, SlotPosition)
        known = (position.slot, position.member) == (config.slot_name, fence.member)
        return known and fence.confirmed <= position.lsn

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        if not value:
            return {}
        return {"stream": f"replication slot {value['slot']}, every commit before LSN {value['lsn']:X}"}

    def _in_doubt(self, position: StreamPosition) -> bool:
        assert isinstance(position, SlotPosition)
        return position.until > position.lsn

    def _scanned(
        self, config: TableConfig, fence: SlotFence, before: StreamPosition | None, **shared: Any
    ) -> StreamPosition:
        return SlotPosition(lsn=fence.confirmed, **shared)
