"""One table's messages of Kafka, as net changes in the columns that the run planned with.

Debezium delivers at least once: after a crash of the connector, changes that the topic already has come again, in their
order. Changes of one row are ordered by their LSN, so what is older than the last one of its row is passed over; and
what was applied by an earlier run is applied again, with everything that follows it, and ends at the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from aurora_sync.increment import Column
from aurora_sync.source.debezium import Decoder, Event, Operation
from aurora_sync.source.debezium_values import Modes
from aurora_sync.source.net_changes import NetChanges
from aurora_sync.source.pgoutput import UNCHANGED, Values
from aurora_sync.source.topic import Message

# What a pending row takes in memory beyond its message, and each value of it.
_ROW_BYTES, _VALUE_BYTES = 500, 45


class TopicFeed:
    """``has(partition, offset, lsn, xid)`` says which changes the target has already."""

    def __init__(
        self,
        schema: str,
        table: str,
        columns: Sequence[Column],
        key: Sequence[str],
        modes: Modes,
        has: Callable[[int, int, int, int], bool],
    ) -> None:
        self.changes = NetChanges(f"{schema}.{table}", columns, key)
        self.oldest: datetime | None = None  # when the first change was committed that the target did not have
        self.rescan = ""  # why the table must be scanned, where the topic does not have everything
        self._decoder = Decoder(schema, table, columns, key, modes)
        self._has = has
        self._overhead = _ROW_BYTES + _VALUE_BYTES * len(columns)
        self._lsns: dict[Values, int] = {}
        self._truncated = 0

    def take(self, message: Message) -> None:
        event = self._decoder.decode(message.key, message.value, message.headers)
        if event.operation is Operation.IGNORED:
            return
        lsn, xid = event.lsn or 0, event.xid or 0
        if self._has(message.partition, message.offset, lsn, xid):
            return
        if event.snapshot:
            self.rescan = "the connector made a copy of its own, and what was deleted before is in no event"
            return
        self.oldest = self.oldest or event.committed_at
        if event.operation is Operation.TRUNCATE:
            if lsn > self._truncated:
                self._truncated = lsn
                self._lsns.clear()
                self.changes.truncate()
            return
        self._change(event, lsn, xid, len(message.value or b"") + self._overhead)

    def written(self) -> None:
        """What was pending is staged."""
        self._lsns.clear()

    def _change(self, event: Event, lsn: int, xid: int, size: int) -> None:
        """A change of the key is applied with its second half, the INSERT, which says the former key."""
        if event.operation is Operation.DELETE:
            assert event.before is not None
            key = self.changes.key_of(event.before)
            if event.successor is None and self._is_news(key, lsn):
                self.changes.delete(key)
            return
        assert event.after is not None
        values, former = event.after, event.former
        if event.operation is Operation.UPDATE and event.before is not None:
            values = _filled(values, event.before)
            former = self.changes.key_of(event.before)
        if not self._is_news(self.changes.key_of(values), lsn):
            return
        if event.operation is Operation.UPDATE or former is not None:
            if former is not None:
                self._lsns[former] = lsn
            self.changes.update(values, xid, size, former)
        else:
            self.changes.insert(values, xid, size)

    def _is_news(self, key: Values, lsn: int) -> bool:
        """A row has no two changes with one LSN."""
        if lsn <= max(self._lsns.get(key, 0), self._truncated):
            return False
        self._lsns[key] = lsn
        return True


def _filled(values: Values, before: Values) -> Values:
    """With REPLICA IDENTITY FULL the row from before has what did not change."""
    return tuple(old if new is UNCHANGED else new for new, old in zip(values, before, strict=True))
