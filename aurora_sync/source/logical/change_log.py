"""Writes every change of a stream as a separate row, for the history of a table. Net changes keep only the last one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from aurora_sync.source.logical.pgoutput import UNCHANGED, Value, Values
from aurora_sync.source.net_changes import csv_row


class ChangeLog:
    """Passes each change to ``write`` as it arrives, with the fields of warehouse/history.py."""

    def __init__(self, columns: Sequence[str], write: Callable[[bytes], object]) -> None:
        self._columns = list(columns)
        self._write = write
        self._nothing: Values = (None,) * len(columns)
        self._moment: tuple[Value, ...] = ()
        self._number = 0

    def begins(self, commit_lsn: int, xid: int, committed_at: datetime) -> None:
        """Set the transaction of the changes that follow."""
        self._moment = b"%d" % xid, b"%d" % commit_lsn, committed_at.replace(tzinfo=None).isoformat(" ").encode()

    def insert(self, values: Values) -> None:
        self._row(values, b"I")

    def update(self, values: Values, former: Values | None) -> None:
        """Record an UPDATE. ``former`` is the old key of the row, None if the key did not change."""
        unchanged = [name for name, value in zip(self._columns, values, strict=True) if value is UNCHANGED]
        known = tuple(None if value is UNCHANGED else value for value in values)
        key = former and [v.decode() if isinstance(v, bytes) else None for v in former]
        self._row(known, b"U", _json(unchanged) if unchanged else None, _json(key) if key else None)

    def delete(self, values: Values) -> None:
        """Record a DELETE, with the values that the stream has: at least the key."""
        self._row(tuple(None if value is UNCHANGED else value for value in values), b"D")

    def truncate(self) -> None:
        self._row(self._nothing, b"T")

    def _row(self, values: Values, operation: bytes, unchanged: Value = None, former: Value = None) -> None:
        self._number += 1
        self._write(csv_row([*values, operation, *self._moment, b"%d" % self._number, unchanged, former]))


def _json(texts: Sequence[str | None]) -> bytes:
    return json.dumps(texts, ensure_ascii=False).encode()
