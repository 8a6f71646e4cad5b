"""``watermark_type: debezium``: every change, deletes included, from the topic that Debezium's connector writes.

engine/runners/topic.py reads the topic. The offsets are stored in the sync log, not in a Kafka consumer group. The scan
before the stream is in streaming.py. The target is as complete as the topic: it lacks changes that the slot has and
the connector has not sent yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Finding
from aurora_sync.model.fences import SlotFence, SlotRequest
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.streaming import NOTICES_PARTITIONS, Streaming, StreamPosition

T = TypeVar("T")
Sequences = Mapping[int, tuple[int, int]]  # source.sequence of Debezium, by partition
_SEQUENCES = ("newest", "strays")
_BY_PARTITION = ("offsets", "ends", *_SEQUENCES)


@dataclass(frozen=True, kw_only=True)
class TopicPosition(StreamPosition):
    """A position in a topic: the target has every message before ``offsets``, by partition.

    ``ends`` are the ends of the partitions when the table was scanned. ``newest`` and ``strays`` are the sequences of
    the messages applied since (source/debezium/partitions.py); earlier releases did not write them. ``rescan`` is the
    gap that was found by the scan.
    """

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
        """Return whether the target has the change of a message. A message that was in the topic before the snapshot of
        the scan belongs to a transaction that the snapshot saw, or that was in progress; any other message there
        belongs to another history of the database."""
        if self.seen and offset < self.ends.get(partition, 0):
            return xid not in self.seen.in_progress
        return self.was_scanned(lsn, xid)

    def at(self, offsets: Mapping[int, int], newest: Sequences, strays: Sequences) -> TopicPosition:
        """Return the position after the topic was applied up to ``offsets``. The facts about the scan are kept, because
        Debezium may send the changes that the scan saw again."""
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

    def why_scan(
        self,
        config: TableConfig,
        table: SourceTable,
        watermark: Watermark | None,
        findings: tuple[Finding, ...],
        at: Observation,
    ) -> str:
        """A connector stays in one session of logical replication, which no run can renew."""
        if table.kind == "p" and at.token.major < NOTICES_PARTITIONS:
            return (
                f"on PostgreSQL {at.token.major} a connector may miss changes of partitions that were attached since it"
                " started"
            )
        return super().why_scan(config, table, watermark, findings, at)

    def _goes_on(self, position: StreamPosition, config: TableConfig, fence: SlotFence) -> bool:
        """Return whether the topic still has every message after the position: retention may have deleted unread
        messages, and the topic may have been recreated."""
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
        """Return True always: only the transaction ids in the scan's snapshot show which messages came after it."""
        return True

    def _scanned(
        self, config: TableConfig, fence: SlotFence, before: StreamPosition | None, **shared: Any
    ) -> StreamPosition:
        """Return the position after a scan. If no transaction was open, the scan has every change that was in the topic
        before it, so that the stream continues from the ends of the partitions."""
        assert before is None or isinstance(before, TopicPosition)
        ends = {number: high for number, (_, high) in fence.extents.items()}
        offsets = before.offsets if before else {number: low for number, (low, _) in fence.extents.items()}
        # Changes that are committed before a new slot exists are in no message: every run scans until there is one.
        rescan = f"the connector's slot {config.slot_name} is lost" if fence.lost else ""
        if fence.former:
            # The connector knows tables by oid, and does not learn a new name outside of its table.include.list.
            names = ", ".join(fence.former.values())
            rescan = rescan or (
                f"{names} had the name of this table, and the connector sends its changes under this name until a"
                f" restart: drop {names}, or ALTER PUBLICATION {config.slot_name} DROP TABLE {names}"
            )
        return TopicPosition(
            topic=topic(config), offsets=offsets if fence.in_progress else ends, ends=ends, rescan=rescan, **shared
        )


def topic(config: TableConfig) -> str:
    """Return the topic to which the connector writes the events of a table. Characters that a topic's name does not
    allow become ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{config.topic_prefix}.{config.qualified_name}")


def _as_text(by_partition: Mapping[int, T]) -> dict[str, T]:
    return {str(key): value for key, value in by_partition.items()}


def _as_numbers(by_partition: Mapping[str, T]) -> dict[int, T]:
    return {int(key): value for key, value in by_partition.items()}
