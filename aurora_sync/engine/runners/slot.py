"""One batch: all tables of one replication slot, top to bottom.

::

    look at every table as a sync does ─► scan those that the stream cannot serve (engine/sync.py)
        ─► mark the log ─► drain the slot to the mark, net changes by table ─► S3, a manifest each
        ─► one warehouse transaction for all tables ─► advance the slot as far as is safe
        ─► scan the tables with a change that could not be read

The order proves that no change is lost. Each table is looked at in a snapshot *before* the mark. The changes that this
snapshot sees therefore precede the mark, and the watermark may include them. A position advances only inside the
transaction that merges its changes. The slot is advanced last, and never past the position of the target furthest
behind. Changes that are sent again are skipped by their position. A transaction that is committed in the log but not
yet visible to other sessions is not confirmed: a scan that begins at that moment would not see it, and must still find
it in the stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from psycopg2.extensions import connection as Connection

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import member as members_of
from aurora_sync.engine.runners.base import problems_of
from aurora_sync.engine.runners.member import ChangeMember, apply_changes
from aurora_sync.engine.runners.stream import Scan, StreamRunner
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.survey import survey
from aurora_sync.engine.verify import not_compared
from aurora_sync.errors import SourceError
from aurora_sync.model import foreign_text
from aurora_sync.model.receipt import Receipt, Slot
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.logical import slot
from aurora_sync.source.logical.change_log import ChangeLog
from aurora_sync.source.logical.feed import TableFeed
from aurora_sync.strategies.logical import Logical, SlotPosition
from aurora_sync.strategies.streaming import NOTICES_PARTITIONS

logger = foreign_text.logger(__name__)

# Bytes of WAL that a table without changes may stay behind before its position is written for that reason alone. The
# slot keeps all WAL after the oldest position, and every run reads it again.
BEHIND_BYTES = 64_000_000
# Creating a slot waits until all open transactions have ended.
SLOT_TIMEOUT = "10min"


@dataclass(kw_only=True)
class _SlotMember(ChangeMember):
    position: SlotPosition
    feed: TableFeed
    after: SlotPosition | None = None  # the position after the run; None: where the stream was read to


class SlotRunner(StreamRunner[_SlotMember]):
    def shared_with(self, config: TableConfig) -> str | None:
        return config.slot_name

    def problems(self, tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
        yield from problems_of_slots(tables, source)

    def prepare(self, batch: Sequence[TableConfig], places: Places) -> None:
        """Recreate a slot that the server has invalidated. Its tables are then scanned, because their positions are
        older than the new slot. Raises ConfigError when the source lacks anything else."""
        with connect(places.source.dsn) as connection:
            found = survey(connection, batch)
            if found.slot and found.slot.lost:
                logger.warning(
                    "replication slot %s is lost: it is recreated, and its tables are scanned", found.slot_name
                )
                slot.drop(connection, found.slot_name)
                slot.create(places.source.dsn, found.slot_name, timeout=SLOT_TIMEOUT)
                found = survey(connection, batch)
        found.assert_ready()

    def assert_readable(self, config: TableConfig, places: Places) -> None:
        with connect(places.source.dsn) as connection:
            found = survey(connection, [config])
        if found.slot and found.slot.lost:
            raise not_compared(config, f"replication slot {found.slot_name} is lost")
        found.assert_ready()

    def member_or_scan(self, found: Look, places: Places) -> _SlotMember | str:
        position, why = self.position(found)
        if position is None:
            return why
        assert isinstance(position, SlotPosition)
        plan = found.plan
        types = found.reading.wire_types()
        feed = TableFeed(
            found.config.qualified_name, plan.columns, plan.key, types, position.has, places.source.longest_value
        )
        if found.reading.table.kind == "p" and plan.at.token.major < NOTICES_PARTITIONS:
            feed.partitions_since = max(position.lsn, position.until)
        return _SlotMember(**vars(found), position=position, changes=feed.changes, feed=feed)

    def restrict_to_snapshot(self, member: _SlotMember) -> None:
        """Exclude the changes that the snapshot does not see; the next run reads them. The position after the run is
        that of a scan in this snapshot. The slot is not advanced, because its other tables have not been read."""
        position, after = member.position, Logical().position_in(member.plan.watermark)
        assert isinstance(after, SlotPosition)
        assert after.seen
        sees = after.seen.holds
        member.after = after
        member.feed.has = lambda lsn, xid: position.has(lsn, xid) or not sees(xid)

    def apply(
        self, members: Sequence[_SlotMember], places: Places, *, may_forget: bool
    ) -> tuple[list[Receipt], list[Scan]]:
        return _stream(members, places, may_confirm=may_forget)

    def discard(self, tables: Sequence[TableConfig], places: Places) -> None:
        name, dsn = tables[0].slot_name, places.source.dsn
        try:
            with connect(dsn) as connection:
                mark, undecided = slot.mark(connection)
                drained = slot.drain(dsn, name, name, mark, {}, among=undecided)
                slot.advance(connection, name, _seen_by_all(connection, drained))
        except SourceError as error:
            logger.warning("replication slot %s could not be advanced: %s", name, error)


def problems_of_slots(tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
    """Yield what is missing at the source for the replication slots of these tables, one sentence each."""
    slots: dict[str, list[TableConfig]] = {}
    for table in tables:
        slots.setdefault(table.slot_name, []).append(table)
    for of_slot in slots.values():
        yield from problems_of(partial(_assert_ready, of_slot, source))


def _assert_ready(tables: Sequence[TableConfig], source: Source) -> None:
    """Raise ConfigError when something is missing. Also tries a replication connection."""
    with connect(source.dsn) as connection:
        found = survey(connection, tables, stream_from=source.dsn)
    found.assert_ready()


def _stream(members: Sequence[_SlotMember], places: Places, *, may_confirm: bool) -> tuple[list[Receipt], list[Scan]]:
    """Apply the changes of the members. Returns the receipts, and the members that must be scanned instead, each with
    the reason."""
    name, dsn = members[0].config.slot_name, places.source.dsn
    watch = Stopwatch()
    with ExitStack() as attempts:

        def spill() -> None:
            while sum(member.changes.bytes for member in members) > members_of.PENDING_BYTES:
                max(members, key=lambda member: member.changes.bytes).write(places, attempts)

        for member in members:
            if member.config.history:
                names = [column.name for column in member.plan.columns]
                member.feed.log = ChangeLog(names, partial(member.record, places, attempts))
        with watch.phase("export"):
            with connect(dsn) as connection:
                mark, undecided = slot.mark(connection)
            feeds = {member.plan.at.token.table_oid: member.feed for member in members}
            drained = slot.drain(dsn, name, name, mark, feeds, among=undecided, on_bytes=spill)
            unreadable = [(member.config, member.feed.rescan) for member in members if member.feed.rescan]
            members = [member for member in members if not member.feed.rescan]
            moved = [
                member
                for member in members
                if member.changes or member.parts or drained.reached - member.position.lsn > BEHIND_BYTES
            ]
            for member in moved:
                member.close(places, attempts)
            moved = [member for member in moved if not member.fault]
        for member in members:
            member.reach(member.after or member.position.at(drained.reached))
        for member in moved:
            member.commit(places)
        applied = apply_changes(moved, places)
    if not members:
        return [], unreadable
    found, warnings = _confirm(members, moved, places, drained, may_confirm and not unreadable)
    receipts = [
        member.receipt(applied.get(member.load_id), places, watch, warnings, drained.oldest)
        for member in members
        if not member.fault
    ]
    return [dataclasses.replace(receipt, slot=found) for receipt in receipts], unreadable


def _seen_by_all(connection: Connection, drained: slot.Drained) -> int:
    """Return the LSN before which every commit that was read is visible to all sessions: the snapshot of a scan that
    begins now sees it."""
    unseen = slot.in_progress(connection)
    return min([drained.reached, *(lsn for xid, lsn in drained.commits.items() if xid in unseen)])


def _confirm(
    members: Sequence[_SlotMember],
    moved: Sequence[_SlotMember],
    places: Places,
    drained: slot.Drained,
    may_confirm: bool,
) -> tuple[Slot | None, tuple[str, ...]]:
    """Advance the slot to the position that every target has, and return its state and warnings. The changes are
    already applied, so a failure here is a warning."""
    name = members[0].config.slot_name
    behind = [member.position.lsn for member in members if member not in moved]
    try:
        with connect(places.source.dsn) as connection:
            safe = min([_seen_by_all(connection, drained), *behind])
            if may_confirm and safe > min(member.position.lsn for member in members):
                slot.advance(connection, name, safe)
            return slot.look(connection, name), ()
    except SourceError as error:
        logger.warning("replication slot %s could not be advanced: %s", name, error)
        return None, (f"replication slot {name} could not be advanced: {error}",)
