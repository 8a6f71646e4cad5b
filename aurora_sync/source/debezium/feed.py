"""One table's messages of Kafka, as net changes in the columns that the run planned with.

Debezium delivers at least once: after a crash of the connector, changes that the topic already has come again, in their
order. Changes of one row are ordered by their LSN, so what is older than the last one of its row is passed over; and
what was applied by an earlier run is applied again, with everything that follows it, and ends at the same rows.

That is of one partition. An older change that comes behind a newer one of another partition was not applied before: it
is left to a scan, with all that follows it (partitions.py).
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

# What a pending row takes in memory beyond its message, and each value of it.
_ROW_BYTES, _VALUE_BYTES = 500, 45
# Nobody knows which: no scan has come as far.
_NO_LSN = 2**64
_LONE = (
    "a tombstone came without the delete before it, which says when the row was deleted: set cleanup.policy=delete on"
    " the topic, and remove transforms that drop deletes"
)
_AGAIN = "the connector sends changes again, and has not come as far as it had been"
_LATE = (
    "a change came late, behind a newer one of another partition, which may be of the same row: let the topic have one"
    " partition, or keys that do not change"
)


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
        longest: int | None = None,
    ) -> None:
        self.changes = NetChanges(f"{schema}.{table}", columns, key, longest)
        self.oldest: datetime | None = None  # when the first change was committed that the target did not have
        self.relies = False  # on the row as an earlier message, or the target, has it: values were not repeated
        self.sees: Callable[[int], bool] = lambda _: True  # which transactions are to be applied
        self.stopped: dict[int, int] = {}  # offsets of the first change of another, by partition
        self.overtaken = False  # what is to be applied comes behind one of them
        self.rescan = ""  # why the table must be scanned, where the topic does not say everything in order
        self.begin(Order())
        self._decoder = Decoder(schema, table, columns, key, modes)
        self._has = has
        self._overhead = _ROW_BYTES + _VALUE_BYTES * len(columns)
        self._lsns: dict[Values, tuple[int, int]] = {}  # of the last change of a row, and its partition
        self._truncated = 0
        self._deletes: dict[int, bytes | None] = {}  # key of the last message of a partition, where it was a DELETE
        self._last: dict[int, SourceSequence] = {}  # of the changes, by partition, where they say their order
        self._again: set[int] = set()  # partitions that had changes again which the target has

    def begin(self, order: Order) -> None:
        """With what was applied by the runs before."""
        self.order = order  # of what is pending as well
        self._before = order.copy()

    def saw(self, message: Message) -> None:
        """Know what a message was when the next one comes. Its values are not read: it is one that was dealt with."""
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
            self.rescan = "the connector made a copy of its own, and what was deleted before is in no event"
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
        """Why the table must be scanned, once the topic was read to its end: a connector that died sends changes again,
        and where it has not come as far as it had been, rows would be set back. Empty where they would not."""
        return _AGAIN if any(self._last[each] < self.order.newest[each] for each in self._again) else ""

    def written(self) -> None:
        """What was pending is staged."""
        self._lsns.clear()
        self.begin(self.order)

    def _change(self, event: Event, message: Message, lsn: int, xid: int) -> None:
        """A change of the key is applied with its second half, the INSERT, which says the former key."""
        if event.successor is not None:
            return
        values, former = event.after, event.former and self.changes.one_key(event.former)
        if event.operation is Operation.UPDATE and values and event.before is not None:
            values = _filled(values, event.before)
            former = self.changes.key_of(event.before)
        row = values or event.before
        assert row is not None
        key = self.changes.key_of(row)
        moved = event.former is not None or former not in (None, key)  # its message may lie in another partition
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
        except DefectError as error:  # what made the row again has not come, or never will
            self.rescan = error.what

    def _is_news(
        self, key: Values, former: Values | None, lsn: int, message: Message, place: SourceSequence, *, moved: bool
    ) -> bool:
        """Whether a change is to be applied, and note it. A row has no two changes with one LSN."""
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
        """Whether nothing newer was ``applied`` from another partition that may be of the same row, and note it."""
        if applied.is_late(message.partition, place, stray=stray):
            self.rescan = _LATE
            return False
        self.order.took(message.partition, place, stray=stray)
        return True


def _filled(values: Values, before: Values) -> Values:
    """With REPLICA IDENTITY FULL the row from before has what did not change."""
    return tuple(old if new is UNCHANGED else new for new, old in zip(values, before, strict=True))
