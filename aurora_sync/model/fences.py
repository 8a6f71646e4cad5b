"""The fences of a read: what a strategy asks to be looked at around the snapshot, and what was seen there.

A strategy returns a request, source/fences/ answers it, and the strategy reads the answer off the observation
(:meth:`~aurora_sync.model.observation.Observation.seen`):

================ ============= ========================================================================
request          answer        shows
================ ============= ========================================================================
ClockRequest     ClockFence    since when transactions have been open
LockRequest      LockFence     the maximum of a column, and then who may be writing the table
SlotRequest      SlotFence     what a slot has to send of the table, and how far a topic goes
OutboxRequest    OutboxFence   what the snapshot sees, and what was taken out of the table's outbox
================ ============= ========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class FenceRequest:
    """What a strategy wants looked at before the snapshot exists, and in it."""


@dataclass(frozen=True)
class Fence:
    """What was seen of it."""


@dataclass(frozen=True)
class ClockRequest(FenceRequest):
    pass


@dataclass(frozen=True)
class LockRequest(FenceRequest):
    column: str


@dataclass(frozen=True)
class SlotRequest(FenceRequest):
    """``slot`` is the name of the publication as well. With a ``topic``, its connector reads the slot."""

    slot: str
    topic: str = ""


@dataclass(frozen=True)
class OutboxRequest(FenceRequest):
    pass


@dataclass(frozen=True)
class ClockOffset:
    """How many seconds the source's clock is ahead of the runner's: two bounds, as an answer takes time to arrive."""

    least: float
    most: float

    @classmethod
    def of(cls, asked: datetime, said: datetime, answered: datetime) -> ClockOffset:
        """The source said its time at some moment between the runner's two.

        >>> noon = datetime(2026, 6, 1, 12)
        >>> ClockOffset.of(noon, noon.replace(second=9), noon.replace(second=2))
        ClockOffset(least=7.0, most=9.0)
        """
        return cls((said - answered).total_seconds(), (said - asked).total_seconds())

    def change(self, other: ClockOffset) -> timedelta:
        """The most by which the two may differ.

        >>> ClockOffset(7, 9).change(ClockOffset(-3, 0))
        datetime.timedelta(seconds=12)
        """
        return timedelta(seconds=max(self.most - other.least, other.most - self.least))


@dataclass(frozen=True)
class ClockFence(Fence):
    """The open transactions of this database, before the snapshot."""

    opened: datetime  # least(now, min(xact_start)): no transaction that is open began earlier
    offset: ClockOffset  # when that was looked up
    hidden_sessions: int = 0  # sessions that do not show this role when their transaction began


@dataclass(frozen=True)
class LockFence(Fence):
    """The numbers of a column and the writers of the table, before the snapshot."""

    high_water: int | None  # max(column), taken first
    holders: tuple[str, ...] = ()  # virtual transactions that may be writing the table, taken second
    last_value: int | None = None  # of the sequence; None: not readable; before its first use, one step below start


@dataclass(frozen=True)
class SlotFence(Fence):
    """A replication slot, and the publication of its name, beside a snapshot. Transaction ids have 32 bits."""

    confirmed: int  # LSN from which the slot sends, before the snapshot
    # What makes the table a part of the publication: another when it was taken out and in again, when what the
    # publication publishes or how a row is named in it was altered and set back.
    member: str
    writers: tuple[int, ...]  # transactions that may have written the table, before the snapshot
    in_progress: tuple[int, ...]  # transactions below its xmax that the snapshot does not see
    position: int  # LSN after the snapshot: all that it sees has ended there or before
    lost: bool = False  # the slot, or what it should still have
    all_tables: bool = False  # the publication's; such a table may have been UNLOGGED meanwhile
    extents: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # of a topic's partitions, before the snapshot
    former: dict[str, str] = field(default_factory=dict)  # oid -> name: published tables that had this table's name


@dataclass(frozen=True)
class Visible:
    """Which transactions a snapshot sees: those below ``xmax`` that were not in progress (``pg_snapshot``)."""

    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visible:
        """
        >>> Visible.parse("10:20:10,14,15")
        Visible(xmax=20, in_progress=frozenset({10, 14, 15}))
        """
        _, xmax, running = text.split(":")
        return cls(int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def includes(self, other: Visible) -> bool:
        """Whether this one sees all that the other does. Of two snapshots of one server the later one does.

        >>> earlier, later = Visible.parse("10:20:10,14"), Visible.parse("10:20:10")
        >>> later.includes(earlier), earlier.includes(later), later.includes(later)
        (True, False, True)
        >>> Visible.parse("20:20:").includes(Visible.parse("21:21:"))
        False
        """
        return other.xmax <= self.xmax and all(x >= other.xmax or x in other.in_progress for x in self.in_progress)


@dataclass(frozen=True)
class OutboxFence(Fence):
    """An outbox in a snapshot, both as ``pg_snapshot`` prints them."""

    snapshot: str
    emptied: str | None  # what this snapshot saw may have been taken out; None: nobody knows what was
    forged: bool = False  # the snapshot sees an entry that its triggers cannot have written
