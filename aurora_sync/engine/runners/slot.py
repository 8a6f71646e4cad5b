"""All tables of one replication slot, one batch, top to bottom.

::

    look at every table as a sync does ─► scan those that the stream cannot serve (engine/sync.py)
        ─► mark the log ─► drain the slot to the mark, net changes by table ─► S3, a manifest each
        ─► one warehouse transaction for all tables ─► tell the slot what is safe
        ─► scan those of whose changes one could not be read

The order carries the promise. Each table is looked at in a snapshot *before* the mark, so what that snapshot saw lies
before the mark, and the watermark may name it. A position moves only inside the transaction that merges its changes;
the slot hears last, and never more than the target furthest behind has. What comes twice is skipped by its position.
A transaction that is committed in the log and not yet visible to other sessions is not confirmed: a scan that begins
meanwhile would not see it, and still find it in the stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, sync
from aurora_sync.engine import member as streamed
from aurora_sync.engine.member import Streamed, apply_streamed, compared, scanned, starting_again, where_to_stream_from
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions, plan_increment
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.survey import survey
from aurora_sync.engine.verify import not_compared, state_as_found
from aurora_sync.errors import AuroraSyncError, SourceError, values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.receipt import Receipt, Slot
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.logical import slot
from aurora_sync.source.logical.change_log import ChangeLog
from aurora_sync.source.logical.feed import TableFeed
from aurora_sync.strategies.logical import Logical, SlotPosition

logger = foreign_text.logger(__name__)

# How far, in bytes of WAL, a table without changes stays behind before its position is written for its own sake: the
# slot can forget nothing that it has not passed, and what is kept is read again in every run.
BEHIND_BYTES = 64_000_000
# To make a slot, all transactions that are open must end.
SLOT_TIMEOUT = "10min"


@dataclass(kw_only=True)
class _Member(Streamed):
    position: SlotPosition
    feed: TableFeed
    after: SlotPosition | None = None  # the run; None: where the stream was read to


def run(
    configs: Sequence[TableConfig],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the targets of all tables of one slot up to a commit that comes after this call began.

    ``on_receipt`` is given one receipt for each table. Raises ConfigError when the source is not prepared; and what is
    wrong with one table, or sync.run raises of a table that is scanned, once all others have had their receipts.
    ``allow_deletes`` lifts the delete guard of a scan; a stream has none, for it names what was deleted.
    """
    with values_shown(all(config.show_values for config in configs)):
        _assert_slot(configs, places)
        scan = partial(sync.run, places=places, allow_deletes=allow_deletes, on_progress=on_progress)
        once = partial(_run, configs, places, on_receipt, scan)
        starting_again(once, f"slot {configs[0].slot_name}")


def verify(config: TableConfig, places: Places) -> Receipt:
    """Apply what of the slot one snapshot of the source sees, and nothing else, and compare the target with that
    snapshot. The slot is told nothing: its other tables have not read it.

    Raises NotComparedError where a run would scan the table instead.
    """
    with connect(places.source.dsn) as connection:
        found = survey(connection, [config])
    if found.slot and found.slot.lost:
        raise not_compared(config, f"replication slot {found.slot_name} is lost")
    found.assert_ready()
    state = state_as_found(config, places)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions(verify=True))
        position, why = where_to_stream_from(config, reading.table, plan, state)
        if position is None:
            raise not_compared(config, why)
        # As after a scan in this snapshot: what it does not see is left to the next run.
        after = Logical().position_in(plan.watermark)
        assert isinstance(position, SlotPosition)
        assert isinstance(after, SlotPosition)
        assert after.seen
        sees = after.seen.holds

        def has(lsn: int, xid: int) -> bool:
            return position.has(lsn, xid) or not sees(xid)

        feed = TableFeed(config.qualified_name, plan.columns, plan.key, reading.wire_types(), has)
        member = _Member(
            config=config,
            state=state,
            hinted=None,
            plan=plan,
            as_found=True,
            position=position,
            after=after,
            changes=feed.changes,
            feed=feed,
        )
        receipts, unreadable = _stream([member], places, may_confirm=False)
        if member.fault:
            raise member.fault
        if unreadable:
            raise not_compared(config, unreadable[0][1])
        (receipt,) = receipts
        return compared(member, places, reading, receipt)


def _assert_slot(configs: Sequence[TableConfig], places: Places) -> None:
    """A slot that the server has invalidated is made anew; its tables are then scanned, for their positions are older
    than it."""
    with connect(places.source.dsn) as connection:
        found = survey(connection, configs)
        if found.slot and found.slot.lost:
            logger.warning("replication slot %s is lost: it is made anew, and its tables are scanned", found.slot_name)
            slot.drop(connection, found.slot_name)
            slot.create(places.source.dsn, found.slot_name, timeout=SLOT_TIMEOUT)
            found = survey(connection, configs)
    found.assert_ready()


def _run(
    configs: Sequence[TableConfig],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    scan: Callable[..., Receipt],
    changed: set[str],
    trust_hint: bool,
) -> None:
    members: list[_Member] = []
    scans: list[tuple[TableConfig, str]] = []
    failed: list[AuroraSyncError] = []
    for config in configs:
        target_changed = config.qualified_name in changed
        try:
            found = "its target was changed" if target_changed else _look(config, places, trust_hint)
        except AuroraSyncError as error:
            if error.kind.retry:
                raise
            failed.append(error)  # a person must mend this table, and the others do not wait for that
            continue
        if isinstance(found, _Member):
            members.append(found)
        else:
            scans.append((config, found))

    def scan_all(tables: Sequence[tuple[TableConfig, str]]) -> None:
        for config, why in tables:
            try:
                receipt = scan(config, full=config.qualified_name in changed)
            except AuroraSyncError as error:
                failed.append(error)
            else:
                on_receipt(scanned(receipt, why))

    scan_all(scans)
    if members:
        receipts, unreadable = _stream(members, places, may_confirm=not (scans or failed))
        for receipt in receipts:
            on_receipt(receipt)
        scan_all(unreadable)
        failed += [member.fault for member in members if member.fault]
    if failed:
        for other in failed[1:]:
            failed[0].add_note(str(other))
        raise failed[0]


def _look(config: TableConfig, places: Places, trust_hint: bool) -> _Member | str:
    """The table as a member of the batch, or why it must be scanned; that never by a hint alone."""
    state, hinted = hints.read_state(config, places, trust_hint=trust_hint)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions())
        types = reading.wire_types()
    position, why = where_to_stream_from(config, reading.table, plan, state)
    if position is None:
        return _look(config, places, False) if hinted else why
    assert isinstance(position, SlotPosition)
    feed = TableFeed(config.qualified_name, plan.columns, plan.key, types, position.has)
    return _Member(
        config=config,
        state=state,
        hinted=hinted,
        plan=plan,
        position=position,
        changes=feed.changes,
        feed=feed,
    )


def _stream(
    members: Sequence[_Member], places: Places, *, may_confirm: bool
) -> tuple[list[Receipt], list[tuple[TableConfig, str]]]:
    """Apply the changes of all members but those that must be scanned, which it returns, each with the reason."""
    name, dsn = members[0].config.slot_name, places.source.dsn
    watch = Stopwatch()
    with ExitStack() as attempts:

        def spill() -> None:
            while sum(member.changes.bytes for member in members) > streamed.PENDING_BYTES:
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
        applied = apply_streamed(moved, places, f"aurora_sync slot {name}")
    if not members:
        return [], unreadable
    found, warnings = _confirm(members, moved, places, drained, may_confirm and not unreadable)
    receipts = [
        member.receipt(applied.get(member.load_id), places, watch, warnings, drained.oldest)
        for member in members
        if not member.fault
    ]
    return [dataclasses.replace(receipt, slot=found) for receipt in receipts], unreadable


def _confirm(
    members: Sequence[_Member], moved: Sequence[_Member], places: Places, drained: slot.Drained, may_confirm: bool
) -> tuple[Slot | None, tuple[str, ...]]:
    """Tell the slot what every target has, and look at it then. All is applied whatever becomes of it: a failure is a
    warning."""
    name = members[0].config.slot_name
    behind = [member.position.lsn for member in members if member not in moved]
    try:
        with connect(places.source.dsn) as connection:
            unseen = slot.in_progress(connection)
            commits = [lsn for xid, lsn in drained.commits.items() if xid in unseen]
            safe = min([drained.reached, *behind, *commits])
            if may_confirm and safe > min(member.position.lsn for member in members):
                slot.advance(connection, name, safe)
            return slot.look(connection, name), ()
    except SourceError as error:
        logger.warning("replication slot %s was not told what is applied: %s", name, error)
        return None, (f"replication slot {name} was not told what is applied: {error}",)
