"""The horizon predicate: rows of transactions that were not decided in an earlier snapshot.

Let h be the horizon (``pg_snapshot_xmin``) of the snapshot that run N read. Run N+1 reads every visible row whose
64-bit transaction id is >= h. A row version that run N did not see was written by a transaction that was running or had
not begun at the snapshot of run N. Its id, and the id of any of its subtransactions, is therefore >= h. So no row is
lost, without locks and without waiting (proof and random trials: correctness.md, section 1).

A row stores only the low 32 bits of its id. Let r be xmax - 1 of the reading snapshot. Every visible id is <= r, so
``(r - xmin32) mod 2^32`` is the age of the row. The age is exact unless the row is frozen and older than 2^32
transactions: then the row looks *newer* than it is, and is read again, never lost.

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

# After a crash the server may assign transaction ids again whose WAL was not flushed: a few thousand at most. Going
# back by a million reads more rows again and loses none.
RESTART_MARGIN = 1_000_000


def age(*, raw: int, newest: int) -> int:
    """Return the number of transactions from a row's raw 32-bit xmin to ``newest``, as the predicate computes it in
    SQL."""
    return (newest - raw) & _MASK


def newest(snapshot: Snapshot) -> int:
    """Return r: the largest transaction id that can be visible in the snapshot."""
    return snapshot.xmax - 1


def written_since(horizon: int, at: Snapshot) -> sql.Composable:
    """Return the predicate for rows with a transaction id >= ``horizon``. It selects every row when the horizon is more
    than 2^32 transactions old.

    It means that the age is at most that of the horizon.
    """
    return _between(horizon, newest(at))


def decided_before(at: Snapshot) -> sql.Composable:
    """Return the predicate for rows with a transaction id below the horizon of ``at``. It is the upper bound of a
    disjoint window; such windows export each row version exactly once."""
    return written_before(at.xmin, at)


def written_before(horizon: int, at: Snapshot) -> sql.Composable:
    """Return the predicate for rows with a transaction id < ``horizon``: the complement of :func:`written_since`, in
    any snapshot that follows."""
    return sql.SQL("NOT ({})").format(written_since(horizon, at))


def new_members(stored: dict[str, int], at: Observation) -> list[int]:
    """Return the oids of leaves that are not in ``stored``: the rows of an attached partition may have old ids."""
    return sorted(int(oid) for oid in at.token.members.keys() - stored.keys())


def or_new_members(where: sql.Composable, members: list[int]) -> sql.Composable:
    """Return a predicate for the rows of ``where`` and all rows of the leaves ``members``."""
    if not members:
        return where
    oids = sql.SQL(", ").join(sql.Literal(oid) for oid in members)
    return sql.SQL("(({}) OR tableoid IN ({}))").format(where, oids)


def _between(first: int, last: int) -> sql.Composable:
    """Return the predicate for rows whose raw xmin is that of a transaction id from ``first`` to ``last``.

    PostgreSQL has no order of xids. ``xidsend`` returns the bytes of the number, the most significant one first; a cast
    by text would take five times as long. From BETWEEN with an expression the planner expects 0.5 % of the
    rows, and so several processes share the scan of a large table.
    """
    if last < first:
        return sql.SQL("false")
    if last - first >= _MASK:
        return sql.SQL("true")
    low, high = first & _MASK, last & _MASK
    if low <= high:
        return _bytes_between(low, high)
    return sql.SQL("NOT ({})").format(_bytes_between(high + 1, low - 1))  # the raw numbers passed 2^32


def _bytes_between(low: int, high: int) -> sql.Composable:
    least, most = (sql.Literal(str(xid)) for xid in (low, high))
    return sql.SQL("xidsend(xmin) BETWEEN xidsend({}) AND xidsend({})").format(least, most)
