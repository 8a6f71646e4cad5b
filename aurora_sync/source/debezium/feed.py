"""Collects the messages of one table from a Kafka topic, as net changes in the columns that the run was planned with.

Debezium delivers at least once: after a crash, the connector repeats changes that the topic already has, in their
order. Changes of one row are ordered by their LSN, so a change that is older than the last one of its row is skipped. A
change that an earlier run applied is applied again, with everything that follows it, and results in the same rows.

This holds within one partition. An older change that arrives after a newer change of another partition was not applied
before. The table is then scanned, which covers this change and all that follow it (partitions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from aurora_sync.errors import ConfigError, DefectError, SourceError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.events import Decoder, Event, Operation
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.partitions import Order, SourceSequence
from aurora_sync.source.debezium.topic import Message
from aurora_sync.source.logical.pgoutput import UNCHANGED, Values
from aurora_sync.source.net_changes import NetChanges

# Memory in bytes that a pending row takes beyond its message: per row, and per value.
_ROW_BYTES, _VALUE_BYTES = 500, 45
# Stands for an unknown LSN: it is beyond that of every scan.
_NO_LSN = 2**64
_LONE = (
    "the topic has a tombstone without the delete event before it: set cleanup.policy=delete on the topic, and remove"
    " transforms that drop deletes"
)
_AGAIN = "the connector sends changes again, and has not reached its former position"
_LATE = (
    "a change was read after a newer change of another partition, and both may concern the same row: use a topic with"
    " one partition, or keys that do not change"
)


class TopicFeed:
    """Receives the messages of a table. ``has(partition, offset, lsn, xid)`` tells whether the target has a change."""

    def __init__(
        self,
        schema: str,
        table: str,
        columns: Sequence[Column],
        key: Sequence[str],
        modes: Modes,
        has: Callable[[int, int, int, int], bool],
        longest: int | None = None,
    ) -> None:
        self.changes = NetChanges(f"{schema}.{table}", columns, key, longest)
        self.oldest: datetime | None = None  # commit time of the first change that the target did not have
        self.relies = False  # whether a change lacks values, which an earlier message or the target has
        self.sees: Callable[[int], bool] = lambda _: True  # whether a transaction is to be applied
        self.stopped: dict[int, int] = {}  # by partition: offset of the first change that is not to be applied
        self.overtaken = False  # whether a change that is to be applied follows a stopped offset
        self.rescan = ""  # why the table must be scanned; empty if the topic is complete and in order
        self.begin(Order())
        self._decoder = Decoder(schema, table, columns, key, modes)
        self._has = has
        self._overhead = _ROW_BYTES + _VALUE_BYTES * len(columns)
        self._lsns: dict[Values, tuple[int, int]] = {}  # LSN and partition of the last change, by key
        self._truncated = 0
        self._deletes: dict[int, bytes | None] = {}  # key of a partition's last message, if a DELETE
        self._last: dict[int, SourceSequence] = {}  # place of the last change, by partition
        self._again: set[int] = set()  # partitions that repeated changes which were applied

    def begin(self, order: Order) -> None:
        """Begin a batch after the changes in ``order``, which were applied before."""
        self.order = order  # will include the pending changes
        self._before = order.copy()

    def saw(self, message: Message) -> None:
        """Note a message that was processed before, because the next one may depend on it. Its values are not read."""
        self._note(message, deletes=self._decoder.deletes(message.value))

    def _note(self, message: Message, *, deletes: bool) -> None:
        self._deletes.pop(message.partition, None)
        if deletes:
            self._deletes[message.partition] = message.key

    def _decoded(self, message: Message) -> Event:
        try:
            return self._decoder.decode(message.key, message.value, message.headers)
        except (ConfigError, SourceError) as error:
            error.where = f"{error.where}, partition {message.partition}, offset {message.offset}"
            raise

    def take(self, message: Message) -> None:
        deleted = self._deletes.get(message.partition)
        event = self._decoded(message)
        self._note(message, deletes=event.operation is Operation.DELETE)
        if event.xid and not self.sees(event.xid):
            self.stopped.setdefault(message.partition, message.offset)
            return
        if message.partition in self.stopped:
            self.overtaken |= bool(event.xid)
            return
        if message.value is None and message.key is not None and message.key != deleted:
            if not self._has(message.partition, message.offset, _NO_LSN, 0):
                self.rescan = _LONE
            return
        if event.operation is Operation.IGNORED:
            return
        lsn, xid = event.lsn or 0, event.xid or 0
        if self._has(message.partition, message.offset, lsn, xid):
            return
        if event.snapshot:
            self.rescan = "the connector made a snapshot of its own, and rows that were deleted before it have no event"
            return
        if None not in event.sequence:
            self._last[message.partition] = event.place
            if event.place < self._before.newest.get(message.partition, event.place):
                self._again.add(message.partition)
        self.oldest = self.oldest or event.committed_at
        if event.operation is Operation.TRUNCATE:
            if lsn > self._truncated and self._in_order(message, event.place, stray=True, applied=self.order):
                self._truncated = lsn
                self._lsns.clear()
                self.changes.truncate()
            return
        self._change(event, message, lsn, xid)

    @property
    def behind(self) -> str:
        """Reason why the table must be scanned, once the topic was read to its end; empty if there is none. A connector
        that crashed repeats changes. Until it reaches its earlier position, they would set rows back."""
        return _AGAIN if any(self._last[each] < self.order.newest[each] for each in self._again) else ""

    def written(self) -> None:
        """Begin the next batch: the pending changes are staged."""
        self._lsns.clear()
        self.begin(self.order)

    def _change(self, event: Event, message: Message, lsn: int, xid: int) -> None:
        """Apply the change of a row. A change of the key is applied with its INSERT, which has both keys."""
        if event.successor is not None:
            return
        values, former = event.after, event.former and self.changes.one_key(event.former)
        if event.operation is Operation.UPDATE and values and event.before is not None:
            values = _filled(values, event.before)
            former = self.changes.key_of(event.before)
        row = values or event.before
        assert row is not None
        key = self.changes.key_of(row)
        moved = event.former is not None or former not in (
            None,
            key,
        )  # the message of its delete may be in another partition
        if not self._is_news(key, former, lsn, message, event.place, moved=moved):
            return
        size = len(message.value or b"") + self._overhead
        if event.operation is Operation.DELETE:
            self.changes.delete(key)
        elif event.operation is Operation.UPDATE or former is not None:
            self._update(row, xid, size, former)
        else:
            self.changes.insert(row, xid, size)

    def _update(self, values: Values, xid: int, size: int, former: Values | None) -> None:
        self.relies = self.relies or UNCHANGED in values
        try:
            self.changes.update(values, xid, size, former)
        except DefectError as error:  # the change that inserted the row again has not arrived, or never will
            self.rescan = error.what

    def _is_news(
        self, key: Values, former: Values | None, lsn: int, message: Message, place: SourceSequence, *, moved: bool
    ) -> bool:
        """Return whether a change is to be applied, and record it. No two changes of a row have the same LSN."""
        keys = {key, former or key}
        for each in keys:
            last, partition = self._lsns.get(each, (0, 0))
            if lsn < last and partition != message.partition:
                self.rescan = _LATE
                return False
        if lsn <= max(self._lsns.get(key, (0, 0))[0], self._truncated):
            return False
        stray = moved or self.order.is_astray(message.partition, message.key)
        if not self._in_order(message, place, stray=stray, applied=self._before):
            return False
        self._lsns |= dict.fromkeys(keys, (lsn, message.partition))
        return True

    def _in_order(self, message: Message, place: SourceSequence, *, stray: bool, applied: Order) -> bool:
        """Record a change, or return False if ``applied`` has a newer one of another partition, maybe of this row."""
        if applied.is_late(message.partition, place, stray=stray):
            self.rescan = _LATE
            return False
        self.order.took(message.partition, place, stray=stray)
        return True


def _filled(values: Values, before: Values) -> Values:
    """Fill in the values that did not change from the old row, which is complete under REPLICA IDENTITY FULL."""
    return tuple(old if new is UNCHANGED else new for new, old in zip(values, before, strict=True))
