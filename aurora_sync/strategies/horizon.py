"""The horizon predicate: which rows were written by transactions that an earlier snapshot had not decided.

With h the horizon (``pg_snapshot_xmin``) of the snapshot that run N read, run N+1 reads every visible row
whose 64-bit transaction id is >= h. A version that run N did not see was written by a transaction that was
running or not begun at N's snapshot, so its id, and that of any of its subtransactions, is >= h: no loss,
without locks and without waiting (the proof and its random trials: Design notes, "The horizon theorem").

A row carries the low 32 bits only. With r = xmax - 1 of the reading snapshot every visible id is <= r, so
``(r - xmin32) mod 2^32`` is the age of the row, exact unless the row is frozen and older than 2^32
transactions; then the row looks *newer* than it is, and is read again: never lost.

>>> age(raw=7, newest=2**32 + 10)  # a row just written, after the counter passed 2^32
3
>>> age(raw=4294967290, newest=2**32 + 10)
16
"""

from __future__ import annotations

from psycopg2 import sql

from aurora_sync.model.observation import Observation
from aurora_sync.model.watermark import Snapshot

_MASK = 2**32 - 1

# After a crash the server may hand out transaction ids again whose WAL was not flushed: a few thousand at
# the most; stepping back a million re-reads more and loses nothing.
RESTART_MARGIN = 1_000_000


def age(*, raw: int, newest: int) -> int:
    """Transactions between a row's raw 32-bit xmin and ``newest``; the predicate's arithmetic in Python."""
    return (newest - raw) & _MASK


def newest(snapshot: Snapshot) -> int:
    """r: no transaction id visible in the snapshot is larger."""
    return snapshot.xmax - 1


def written_since(horizon: int, at: Snapshot) -> sql.Composable:
    """Rows with a transaction id >= ``horizon``. A horizon over 2^32 behind selects every row."""
    return sql.SQL("{} <= {}").format(_age(at), sql.Literal(newest(at) - horizon))


def decided_before(at: Snapshot) -> sql.Composable:
    """Rows with a transaction id below ``at``'s own horizon: the upper edge of a disjoint window, which
    exports each row version exactly once."""
    return sql.SQL("{} > {}").format(_age(at), sql.Literal(newest(at) - at.xmin))


def new_members(stored: dict[str, int], at: Observation) -> list[int]:
    """Leaves that were not there: ATTACH PARTITION shows rows whose transaction ids are old."""
    return sorted(int(oid) for oid in at.token.members.keys() - stored.keys())


def or_new_members(where: sql.Composable, members: list[int]) -> sql.Composable:
    """``where``, and all rows of the leaves that were not there before."""
    if not members:
        return where
    oids = sql.SQL(", ").join(sql.Literal(oid) for oid in members)
    return sql.SQL("(({}) OR tableoid IN ({}))").format(where, oids)


def _age(at: Snapshot) -> sql.Composable:
    return sql.SQL("(({} - xmin::text::bigint) & {})").format(sql.Literal(newest(at)), sql.Literal(_MASK))
