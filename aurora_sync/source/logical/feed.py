"""Collects the messages of one table from a change stream, as net changes in the columns that the run was planned with.

A change that was logged while the table had another definition cannot be read with these columns. The log never
changes, so no later run could read it either: the table must be scanned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aurora_sync.model.column import Column
from aurora_sync.source.logical.change_log import ChangeLog
from aurora_sync.source.logical.pgoutput import NEW, OLD, UNCHANGED, Begin, Relation, Value, Values, row
from aurora_sync.source.net_changes import NetChanges

# Memory in bytes that a pending row takes beyond its message: per row, and per value.
_ROW_BYTES, _VALUE_BYTES = 350, 45


class TableFeed:
    """Receives the changes of one table. ``has(commit_lsn, xid)`` tells whether the target has a transaction already;
    ``types`` maps each column to the oid and modifier of its type."""

    def __init__(
        self,
        table: str,
        columns: Sequence[Column],
        key: Sequence[str],
        types: Mapping[str, tuple[int, int]],
        has: Callable[[int, int], bool],
        longest: int | None = None,
    ) -> None:
        self.changes = NetChanges(table, columns, key, longest)
        self.log: ChangeLog | None = None
        self.number = 0  # number of changes so far
        # LSN after which no partition moved before the run; None: the server's session may be of any age.
        self.partitions_since: int | None = None
        self.rescan = ""  # why the table must be scanned; empty if all changes could be read
        self._names = [column.name for column in columns]
        self._key = list(key)
        self._types = types
        self.has = has
        self._xid = 0
        self._places: list[int] | None = None  # positions of our columns in the stream's rows; None: the same
        self._fault = "the stream has no Relation message before the first change"
        self._overhead = _ROW_BYTES + _VALUE_BYTES * len(columns)

    def begins(self, began: Begin) -> bool:
        self._xid = began.xid
        if self.rescan or self.has(began.commit_lsn, began.xid):
            return False
        if self.log:
            self.log.begins(began.commit_lsn, began.xid, began.committed_at)
        return True

    def needs_new_session(self, began: Begin) -> bool:
        """Return whether the server must decode this transaction without what its session knows of partitions.

        Until PostgreSQL 14 a session keeps for each leaf whether it belongs to a published table, as it was at the
        first change of the leaf, even after DETACH and ATTACH. So the first transaction that the target lacks needs a
        new session. Transactions that the last scan only just missed need one each: partitions may have moved between
        them.
        """
        if self.partitions_since is None or self.rescan or self.has(began.commit_lsn, began.xid):
            return False
        if began.commit_lsn >= self.partitions_since:
            self.partitions_since = None
        return True

    def relation(self, relation: Relation) -> None:
        sent = {attribute.name: place for place, attribute in enumerate(relation.attributes)}
        self._fault = self._difference(relation)
        if not self._fault:
            places = [sent[name] for name in self._names]
            self._places = None if places == list(range(len(sent))) else places

    def insert(self, data: bytes) -> None:
        if self._fault:
            self._give_up()
            return
        values = self._arranged(row(data, 6)[0])
        self.number += 1
        self.changes.insert(values, self._xid, len(data) + self._overhead)
        if self.log:
            self.log.insert(values)

    def update(self, data: bytes) -> None:
        if self._fault:
            self._give_up()
            return
        self.number += 1
        if data[5] == NEW:
            values = self._arranged(row(data, 6)[0])
            self.changes.update(values, self._xid, len(data) + self._overhead)
            if self.log:
                self.log.update(values, None)
            return
        before, at = row(data, 6)
        values, former = self._arranged(row(data, at + 1)[0]), self._arranged(before)
        if data[5] == OLD and UNCHANGED in values:
            values = tuple(old if new is UNCHANGED else new for new, old in zip(values, former, strict=True))
        key = self.changes.key_of(former)
        self.changes.update(values, self._xid, len(data) + self._overhead, key)
        if self.log:
            self.log.update(values, key if key != self.changes.key_of(values) else None)

    def delete(self, data: bytes) -> None:
        if self._fault:
            self._give_up()
            return
        self.number += 1
        values = self._arranged(row(data, 6)[0])
        self.changes.delete(self.changes.key_of(values))
        if self.log:
            self.log.delete(values)

    def truncate(self) -> None:
        self.number += 1
        self.changes.truncate()
        if self.log:
            self.log.truncate()

    def _give_up(self) -> None:
        self.rescan = f"the stream has changes from a time when the table had another definition: {self._fault}"

    def _arranged(self, values: list[Value]) -> Values:
        if self._places is None:
            return tuple(values)
        return tuple([values[place] for place in self._places])

    def _difference(self, relation: Relation) -> str:
        """Describe a difference between the table's columns in the stream and in the catalogue; empty if no difference
        matters. An added column does not matter: the next run finds it."""
        sent = {attribute.name: attribute for attribute in relation.attributes}
        for name in self._names:
            attribute = sent.get(name)
            if attribute is None:
                return f"the stream has no column {name}"
            if (attribute.type_oid, attribute.typmod) != self._types[name]:
                return f"column {name} has another type in the stream"
        if missing := [name for name in self._key if not sent[name].in_identity]:
            return f"the replica identity in the stream lacks {', '.join(missing)}"
        return ""
