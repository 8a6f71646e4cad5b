"""``watermark_type: debezium``: every change, deletes included, out of the topic that Debezium's connector writes.

The topic is read by engine/runners/topic.py, from offsets that stand in the sync log and are those of nobody else; the
scan before that is in streaming.py. What the slot still holds has not been sent to the topic: the target is as
complete as that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.fences import SlotFence, SlotRequest
from aurora_sync.model.observation import Observation
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.streaming import Streaming, StreamPosition

T = TypeVar("T")
Sequences = Mapping[int, tuple[int, int]]  # source.sequence of Debezium, by partition
_SEQUENCES = ("newest", "strays")
_BY_PARTITION = ("offsets", "ends", *_SEQUENCES)


@dataclass(frozen=True, kw_only=True)
class TopicPosition(StreamPosition):
    """The target has every message before ``offsets``, by partition; when it was scanned, the topic went to ``ends``.
    ``newest`` and ``strays`` are the sequences of what was applied since (source/debezium/partitions.py); an earlier
    release did     not write them. ``rescan`` is the gap that was found when it was scanned."""

    topic: str
    offsets: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    rescan: str = ""
    newest: Sequences = field(default_factory=dict)
    strays: Sequences = field(default_factory=dict)

    @property
    def method(self) -> str:
        return f"topic {self.topic}"

    @property
    def statement(self) -> str:
        return f"messages of topic {self.topic} from offsets {_as_text(self.offsets)} to its end"

    @property
    def gap(self) -> str:
        return self.rescan

    @property
    def bound(self) -> str:
        return f"every change that the connector had written to topic {self.topic} when this run began"

    def has(self, partition: int, offset: int, lsn: int, xid: int) -> bool:
        """Whether the target has the change of that message. What was in the topic before the scan's snapshot is of
        transactions that it saw, or had in progress; anything else there is of another history of the database."""
        if self.seen and offset < self.ends.get(partition, 0):
            return xid not in self.seen.in_progress
        return self.was_scanned(lsn, xid)

    def at(self, offsets: Mapping[int, int], newest: Sequences, strays: Sequences) -> TopicPosition:
        """Once the topic was applied as far as that. What the scan had seen is kept: Debezium may send it again."""
        return replace(self, offsets=dict(offsets), newest=dict(newest), strays=dict(strays))

    def to_value(self) -> dict[str, Any]:
        return super().to_value() | {name: _as_text(getattr(self, name)) for name in _BY_PARTITION}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> TopicPosition:
        sequences = {name: {key: tuple(at) for key, at in value.get(name, {}).items()} for name in _SEQUENCES}
        read = value | sequences
        return super().from_value(read | {name: _as_numbers(read[name]) for name in _BY_PARTITION})


class Debezium(Streaming):
    name = "debezium"
    stream = "the topic, the slot"
    position = TopicPosition

    def fence(self, config: TableConfig) -> SlotRequest:
        return SlotRequest(config.slot_name, topic=topic(config))

    def _goes_on(self, position: StreamPosition, config: TableConfig, fence: SlotFence) -> bool:
        """Retention may have deleted what was not read, and a topic may have been made anew."""
        assert isinstance(position, TopicPosition)
        known = (position.topic, position.slot, position.member) == (topic(config), config.slot_name, fence.member)
        within = all(
            number in fence.extents and fence.extents[number][0] <= offset <= fence.extents[number][1]
            for number, offset in position.offsets.items()
        )
        fresh = all(low == 0 for number, (low, _) in fence.extents.items() if number not in position.offsets)
        return known and within and fresh and not fence.lost

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        if not value:
            return {}
        return {"stream": f"topic {value['topic']}, every message before {value['offsets']}"}

    def _in_doubt(self, position: StreamPosition) -> bool:
        """Which of the topic's messages came after the scan is known only by its transaction ids."""
        return True

    def _scanned(
        self, config: TableConfig, fence: SlotFence, before: StreamPosition | None, **shared: Any
    ) -> StreamPosition:
        """Unless a transaction was open, the scan has everything that was in the topic before it."""
        assert before is None or isinstance(before, TopicPosition)
        ends = {number: high for number, (_, high) in fence.extents.items()}
        offsets = before.offsets if before else {number: low for number, (low, _) in fence.extents.items()}
        # Until a new slot was seen by a scan, what is committed goes by without a message.
        rescan = f"the connector's slot {config.slot_name} is lost" if fence.lost else ""
        if fence.former:
            # The connector knows tables by oid, and learns no new name that is not in its table.include.list.
            names = ", ".join(fence.former.values())
            rescan = rescan or (
                f"{names} had the name of this table, and until a restart the connector sends its changes as this"
                f" table's: drop it, or ALTER PUBLICATION {config.slot_name} DROP TABLE {names}"
            )
        return TopicPosition(
            topic=topic(config), offsets=offsets if fence.in_progress else ends, ends=ends, rescan=rescan, **shared
        )


def topic(config: TableConfig) -> str:
    """Where the connector writes a table's events: what a topic's name cannot hold becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{config.topic_prefix}.{config.qualified_name}")


def _as_text(by_partition: Mapping[int, T]) -> dict[str, T]:
    return {str(key): value for key, value in by_partition.items()}


def _as_numbers(by_partition: Mapping[str, T]) -> dict[int, T]:
    return {int(key): value for key, value in by_partition.items()}
