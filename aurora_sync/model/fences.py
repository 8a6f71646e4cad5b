"""The fences of a read: facts about the source that a strategy requests, looked up before or in the snapshot.

A strategy returns a request, source/fences/ answers it, and the strategy takes the answer from the observation
(:meth:`~aurora_sync.model.observation.Observation.seen`):

================ ============= ========================================================================
request          answer        shows
================ ============= ========================================================================
ClockRequest     ClockFence    the start of the oldest open transaction
LockRequest      LockFence     the maximum of a column, and then the transactions that may be writing the table
SlotRequest      SlotFence     the changes of the table that a slot still has, and the offsets of a topic
OutboxRequest    OutboxFence   what the snapshot sees, and what was removed from the table's outbox
================ ============= ========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class FenceRequest:
    """The facts that a strategy needs from before the snapshot, or from within it."""


@dataclass(frozen=True)
class Fence:
    """The answer to a :class:`FenceRequest`."""


@dataclass(frozen=True)
class ClockRequest(FenceRequest):
    pass


@dataclass(frozen=True)
class LockRequest(FenceRequest):
    column: str


@dataclass(frozen=True)
class SlotRequest(FenceRequest):
    """The request for a :class:`SlotFence`. The publication has the name of the ``slot``. With a ``topic``, a Debezium
    connector reads the slot."""

    slot: str
    topic: str = ""


@dataclass(frozen=True)
class OutboxRequest(FenceRequest):
    pass


@dataclass(frozen=True)
class ClockOffset:
    """Two bounds, in seconds, for how far the source's clock is ahead of the runner's: an answer takes time to
    arrive."""

    least: float
    most: float

    @classmethod
    def of(cls, asked: datetime, said: datetime, answered: datetime) -> ClockOffset:
        """Return the bounds from the runner's times before and after the question, and the source's time ``said``.

        >>> noon = datetime(2026, 6, 1, 12)
        >>> ClockOffset.of(noon, noon.replace(second=9), noon.replace(second=2))
        ClockOffset(least=7.0, most=9.0)
        """
        return cls((said - answered).total_seconds(), (said - asked).total_seconds())

    def change(self, other: ClockOffset) -> timedelta:
        """Return the largest difference that the bounds of both offsets allow.

        >>> ClockOffset(7, 9).change(ClockOffset(-3, 0))
        datetime.timedelta(seconds=12)
        """
        return timedelta(seconds=max(self.most - other.least, other.most - self.least))


@dataclass(frozen=True)
class ClockFence(Fence):
    """The open transactions of this database, looked up before the snapshot."""

    opened: datetime  # least(now, min(xact_start)): no open transaction began earlier
    offset: ClockOffset  # of the source's clock when ``opened`` was looked up
    hidden_sessions: int = 0  # sessions whose transaction start this role may not see


@dataclass(frozen=True)
class LockFence(Fence):
    """The numbers of a column and the writers of the table, looked up before the snapshot."""

    high_water: int | None  # max(column), taken first
    holders: tuple[str, ...] = ()  # virtual transactions that may be writing the table, taken second
    last_value: int | None = None  # of the sequence; None: not readable; one step below start before its first use


@dataclass(frozen=True)
class SlotFence(Fence):
    """A replication slot and the publication of the same name. Transaction ids have 32 bits."""

    confirmed: int  # LSN from which the slot sends, looked up before the snapshot
    # Versions of the catalogue rows that make the table a part of the publication. The text changes when the table was
    # removed and added again, and when the published operations or the replica identity were altered and set back.
    member: str
    writers: tuple[int, ...]  # transactions that may have written the table, looked up before the snapshot
    in_progress: tuple[int, ...]  # transactions below the snapshot's xmax that it does not see
    position: int  # LSN looked up after the snapshot: every transaction that it sees ended there or before
    lost: bool = False  # the slot, or WAL that it needs, no longer exists
    all_tables: bool = False  # a publication FOR ALL TABLES; a table of it may have been UNLOGGED meanwhile
    # Partition of the topic -> its first offset and the offset after its last one, looked up before the snapshot.
    extents: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    former: dict[str, str] = field(default_factory=dict)  # oid -> name: published tables that had this table's name


@dataclass(frozen=True)
class Visible:
    """The transactions that a snapshot sees: all below ``xmax`` that were not in progress (``pg_snapshot``)."""

    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visible:
        """Return the transactions of a snapshot from the text that PostgreSQL prints for it.

        >>> Visible.parse("10:20:10,14,15")
        Visible(xmax=20, in_progress=frozenset({10, 14, 15}))
        """
        _, xmax, running = text.split(":")
        return cls(int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def includes(self, other: Visible) -> bool:
        """Return whether this snapshot sees every transaction that the other one sees. The later of two snapshots of
        one server does.

        >>> earlier, later = Visible.parse("10:20:10,14"), Visible.parse("10:20:10")
        >>> later.includes(earlier), earlier.includes(later), later.includes(later)
        (True, False, True)
        >>> Visible.parse("20:20:").includes(Visible.parse("21:21:"))
        False
        """
        return other.xmax <= self.xmax and all(x >= other.xmax or x in other.in_progress for x in self.in_progress)


@dataclass(frozen=True)
class OutboxFence(Fence):
    """The state of an outbox in a snapshot. Both snapshots are texts as ``pg_snapshot`` prints them."""

    snapshot: str  # the snapshot of this read
    emptied: str | None  # every entry removed so far was visible in this snapshot; None: unknown
    forged: bool = False  # the snapshot sees an entry that the outbox's triggers cannot have written
