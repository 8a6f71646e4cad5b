"""The source as values: a relation as the catalogue describes it, and the moment at which it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from aurora_sync import plpgsql
from aurora_sync.increment import Canary, Column, Snapshot, Token


@dataclass(frozen=True)
class Index:
    columns: tuple[str, ...]  # empty name for an expression
    unique: bool
    primary: bool
    immediate: bool  # not deferrable
    partial: bool
    valid: bool = True


@dataclass(frozen=True)
class Sequence:
    name: str
    cache: int
    increment: int
    cycle: bool
    version: str = ""  # changes when it is restarted or made anew


@dataclass(frozen=True)
class Trigger:
    name: str
    before: bool
    row: bool
    on_insert: bool
    on_update: bool
    enabled: bool
    source: str  # body of its function
    language: str = "plpgsql"  # of its function
    always: bool = False  # fires in sessions with session_replication_role = replica as well
    clock_shadowed: bool = False  # an unqualified now() in its function may be another than pg_catalog's

    def assigned(self, column: str) -> tuple[str, ...] | None:
        """What it assigns to that column of a row before it is written, in order, each as plpgsql.normalized()
        returns it. None where its text does not prove that."""
        if not (self.enabled and self.before and self.row):
            return ()
        found = plpgsql.assignments(self.source) if self.language == "plpgsql" else None
        return None if found is None else tuple(each.value for each in found if each.column == column)

    def may_write(self, column: str) -> bool:
        """Whether it could change that column of a row before it is written: unless its text proves that it cannot."""
        return self.assigned(column) != ()


# What triggers need lies in a schema of its own.
SCHEMA = "aurora_sync"


@dataclass(frozen=True)
class Outbox:
    """A table of its own, to which triggers write the key of every row that changes (source/outbox.py)."""

    name: str
    key: tuple[str, ...]
    complete: bool  # a trigger writes the key of every row of every partition, whoever writes that
    usable: bool  # this role may read it, and take out what was applied
    version: str  # changes when one of its triggers, their function or the outbox itself was made anew or touched
    watched: bool = True  # triggers of the outbox note what others than a sync take out of it

    @property
    def relation(self) -> tuple[str, str]:
        return SCHEMA, self.name


@dataclass(frozen=True)
class SourceTable:
    """A relation as the catalogue describes it, whole: strategies and the configuration judge it by this."""

    schema: str
    name: str
    oid: int
    kind: str  # pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign table
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    member_kinds: tuple[str, ...]  # relkind of every leaf, foreign partitions included
    comment: str | None = None
    row_estimate: int = 0  # reltuples summed over the leaves, 0 when never analysed
    size_bytes: int = 0
    row_security: bool = False  # row-level security applies to this role
    inherits: bool = False  # has children by INHERITS: a key of the parent does not cover them
    subscribed: bool = False  # filled by logical replication
    unlogged: bool = False  # one of its leaves is
    readable: bool = True  # SELECT on every column
    select_on_table: bool = True  # SELECT on the table itself (xmin needs it)
    sequences: dict[str, Sequence] = field(default_factory=dict)  # by column: the default's or identity's
    triggers: tuple[Trigger, ...] = ()
    trigger_version: str = ""  # changes when a trigger of any leaf, or its function, was touched
    outbox: Outbox | None = None
    notes: bool = True  # its comments and the texts of its triggers could be decoded
    undecodable: str = ""  # why its name or its columns are not known
    unpopulated: tuple[str, ...] = ()  # materialized views that reading it reads, and that were never filled

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def is_heap(self) -> bool:
        """Rows lie in this database with an xmin of its own."""
        return self.kind in "rp" and all(kind in "rp" for kind in self.member_kinds)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((index.columns for index in self.indexes if index.primary), ())


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
