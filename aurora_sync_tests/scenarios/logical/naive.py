"""The usual consumer of the same stream: it applies each change as it comes, by its new key."""

from __future__ import annotations

from aurora_sync.source.logical import pgoutput, slot
from aurora_sync.source.logical.pgoutput import NEW, UNCHANGED, Begin, Relation, Value, Values

Rows = dict[Values, Values]


class NaiveTable:
    """The consumer's table, whose key is its first ``width`` columns. A value that is not sent becomes NULL, and the
    last event of a key wins."""

    def __init__(self, width: int) -> None:
        self.rows: Rows = {}
        self._width = width

    def needs_new_session(self, began: Begin) -> bool:
        return False

    def begins(self, began: Begin) -> bool:
        return True

    def relation(self, relation: Relation) -> None:
        pass

    def insert(self, data: bytes) -> None:
        self._put(pgoutput.row(data, 6)[0])

    def update(self, data: bytes) -> None:
        self._put(pgoutput.row(data, 6 if data[5] == NEW else pgoutput.row(data, 6)[1] + 1)[0])

    def delete(self, data: bytes) -> None:
        self.rows.pop(tuple(pgoutput.row(data, 6)[0][: self._width]), None)

    def truncate(self) -> None:
        self.rows.clear()

    def _put(self, values: list[Value]) -> None:
        row = tuple(None if value is UNCHANGED else value for value in values)
        self.rows[row[: self._width]] = row

    def wrong(self, source: Rows) -> int:
        """Return the rows that are missing, different or surplus."""
        return sum(source.get(key) != row for key, row in self.rows.items()) + len(source.keys() - self.rows.keys())


def consume(dsn: str, name: str, publication: str, mark: int, tables: dict[int, NaiveTable]) -> int:
    """Consume up to the mark and return the position; the caller advances the slot before or after applying."""
    return slot.drain(dsn, name, publication, mark, tables).reached
