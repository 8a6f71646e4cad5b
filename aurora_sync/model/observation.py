"""The source at the moment of a read: the fence, the snapshot and what was looked up beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from aurora_sync.model.watermark import Canary, Snapshot, Token


@dataclass(frozen=True)
class Fence:
    """What a strategy wants looked up before the snapshot is taken.

    ``clock``: since when transactions have been open. ``locks``: the maximum of the column ``name``, and then who may
    be writing the table. ``stream``: what the slot ``name`` has to send of it, and how far a ``topic`` goes.
    ``outbox``: what the snapshot sees, and what was taken out of the table's outbox.
    """

    kind: Literal["clock", "locks", "stream", "outbox"]
    name: str = ""
    topic: str = ""


@dataclass(frozen=True)
class StreamFence:
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
class OutboxFence:
    """An outbox in a snapshot, both as ``pg_snapshot`` prints them."""

    snapshot: str
    emptied: str | None  # what this snapshot saw may have been taken out; None: nobody knows what was
    forged: bool = False  # the snapshot sees an entry that its triggers cannot have written


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
class Observation:
    """The source at the moment of the read. Everything but ``snapshot``, ``offset`` and ``outbox`` was looked up before
    it."""

    snapshot: Snapshot
    token: Token
    clock_fence: datetime | None = None  # least(now, min(xact_start)) of this database
    offset_at_fence: ClockOffset | None = None  # when clock_fence was looked up
    offset: ClockOffset | None = None  # in the snapshot
    hidden_sessions: int = 0  # sessions that do not show this role when their transaction began
    prepared_transactions: int = 0  # of this database
    high_water: int | None = None  # max(watermark column), taken first (lock fence only)
    lock_holders: tuple[str, ...] = ()  # virtual transactions that may be writing the table, taken second
    sequence_last_value: int | None = None  # None: not readable; before its first use, one step below start
    oldest_writer: datetime | None = None  # start of the oldest transaction that holds a transaction id
    oldest_writer_name: str = ""  # whose that is, for a person
    stream: StreamFence | None = None
    outbox: OutboxFence | None = None
    canaries: tuple[Canary, ...] = ()  # those of the stored watermark that are still there, as they are now
