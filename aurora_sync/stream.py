"""All tables of one replication slot, one batch, top to bottom.

::

    look at every table as a sync does ─► scan those that the stream cannot serve (sync.py)
        ─► mark the log ─► drain the slot to the mark, net changes by table ─► S3, a manifest each
        ─► one warehouse transaction for all tables ─► tell the slot what is safe

The order carries the promise. Each table is looked at in a snapshot *before* the mark, so what that snapshot saw lies
before the mark, and the watermark may name it. A position moves only inside the transaction that merges its changes;
the slot hears last, and never more than the target furthest behind has. What comes twice is skipped by its position.
A transaction that is committed in the log and not yet visible to other sessions is not confirmed: a scan that begins
meanwhile would not see it, and still find it in the stream.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from aurora_sync import sync
from aurora_sync.advisor.provision import survey
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError, RivalRunError, SourceError, TargetChangedError
from aurora_sync.increment import Applied, Disposition, Manifest, Part, Receipt, Slot, State
from aurora_sync.places import Places
from aurora_sync.plan import Plan, Wish, is_due, plan_increment
from aurora_sync.receipt import receipt_of
from aurora_sync.relation import SourceTable
from aurora_sync.source import slot
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.feed import TableFeed
from aurora_sync.stage.layout import new_load_id
from aurora_sync.stage.writer import Attempt
from aurora_sync.stopwatch import Stopwatch
from aurora_sync.strategies import identity
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.certificate import certify
from aurora_sync.strategies.logical import Position, why_scan
from aurora_sync.warehouse.apply import Increment, apply_all

logger = logging.getLogger(__name__)

# Of pending changes in memory; past that, those of the largest table are staged as a part of their own.
PENDING_BYTES = 256_000_000
# How far, in bytes of WAL, a table without changes stays behind before its position is written for its own sake: the
# slot can forget nothing that it has not passed, and what is kept is read again in every run.
BEHIND_BYTES = 64_000_000
# To make a slot, all transactions that are open must end.
SLOT_TIMEOUT = "10min"


@dataclass
class _Member:
    """A table that the stream brings up to date."""

    config: TableConfig
    state: State
    hinted: datetime | None
    plan: Plan
    position: Position
    feed: TableFeed
    load_id: str = field(default_factory=new_load_id)
    attempt: Attempt | None = None
    parts: list[Part] = field(default_factory=list)
    manifest: Manifest | None = None
    uri: str | None = None


def run(
    configs: Sequence[TableConfig],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the targets of all tables of one slot up to a commit that comes after this call began.

    ``on_receipt`` is given one receipt for each table. Raises ConfigError when the source is not prepared, and
    whatever sync.run raises of a table that is scanned, once all others have had their receipts. ``allow_deletes``
    lifts the delete guard of a scan; a stream has none, for it names what was deleted.
    """
    _assert_slot(configs, places)
    changed: set[str] = set()  # tables whose target is not as their last run left it
    trust_hint = True
    while True:
        scan = partial(sync.run, places=places, allow_deletes=allow_deletes, on_progress=on_progress)
        try:
            _run(configs, places, on_receipt, scan, changed, trust_hint)
            return
        except (RivalRunError, TargetChangedError) as error:
            if not trust_hint and (isinstance(error, RivalRunError) or error.where in changed):
                raise
            logger.warning("slot %s: starting again from the sync log: %s", configs[0].slot_name, error)
            if not trust_hint:
                changed.add(error.where)
        trust_hint = False


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
    for config in configs:
        target_changed = config.qualified_name in changed
        found = "its target was changed" if target_changed else _look(config, places, trust_hint)
        if isinstance(found, _Member):
            members.append(found)
        else:
            scans.append((config, found))
    failed: list[AuroraSyncError] = []
    for config, why in scans:
        try:
            receipt = scan(config, full=config.qualified_name in changed)
        except AuroraSyncError as error:
            failed.append(error)
            continue
        on_receipt(dataclasses.replace(receipt, warnings=(f"scanned, not streamed: {why}", *receipt.warnings)))
    for receipt in _stream(members, places, may_confirm=not scans) if members else ():
        on_receipt(receipt)
    if failed:
        for other in failed[1:]:
            failed[0].add_note(str(other))
        raise failed[0]


def where_to_stream_from(
    config: TableConfig, table: SourceTable, plan: Plan, state: State
) -> tuple[Position | None, str]:
    """The target's position in the stream, or None and why the table must be scanned."""
    since = plan.verdict.since.watermark if plan.verdict.since else None
    why = why_scan(config, table, since, plan.verdict.findings, plan.at)
    if not why and is_due(config, state):
        why = "a reconcile is due"
    return (None, why) if why else (Position.of(since), "")


def streamed(config: TableConfig, plan: Plan, state: State, position: Position) -> Plan:
    """The plan of a scan as that of a stream which is applied as far as the position."""
    read = ReadPlan(None, Disposition.CHANGES, f"stream of slot {config.slot_name}")
    value = position.to_value()
    return dataclasses.replace(
        plan,
        read=read,
        reconcile=False,
        certificate=certify(
            config,
            plan.strategy,
            read,
            plan.at,
            plan.verdict.findings,
            value,
            reconciled=state.reconciled,
            now=False,
        ),
        watermark=dataclasses.replace(plan.watermark, value=value),
    )


def _look(config: TableConfig, places: Places, trust_hint: bool) -> _Member | str:
    """The table as a member of the batch, or why it must be scanned; that never by a hint alone."""
    state, hinted = sync.read_state(config, places, trust_hint=trust_hint)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, Wish())
        types = reading.wire_types()
    position, why = where_to_stream_from(config, reading.table, plan, state)
    if position is None:
        return _look(config, places, False) if hinted else why
    return _Member(
        config,
        state,
        hinted,
        plan,
        position,
        TableFeed(config.qualified_name, plan.columns, plan.key, types, position.has),
    )


def _stream(members: Sequence[_Member], places: Places, *, may_confirm: bool) -> list[Receipt]:
    name, dsn = members[0].config.slot_name, places.source.dsn
    watch = Stopwatch()
    with ExitStack() as attempts:

        def write(member: _Member) -> None:
            if member.attempt is None:
                attempt = places.stage.attempt(member.config.qualified_name, member.load_id)
                member.attempt = attempts.enter_context(attempt)
            member.parts.append(member.feed.changes.write(member.attempt.write, len(member.parts)))

        def spill() -> None:
            while sum(member.feed.changes.bytes for member in members) > PENDING_BYTES:
                write(max(members, key=lambda member: member.feed.changes.bytes))

        with watch.phase("export"):
            with connect(dsn) as connection:
                mark, undecided = slot.mark(connection)
            feeds = {member.plan.at.token.table_oid: member.feed for member in members}
            drained = slot.drain(dsn, name, name, mark, feeds, among=undecided, on_bytes=spill)
            moved = [
                member
                for member in members
                if member.feed.changes or member.parts or drained.reached - member.position.lsn > BEHIND_BYTES
            ]
            for member in moved:
                if member.feed.changes or not member.parts:
                    write(member)
                assert member.attempt is not None
                member.attempt.close()
        for member in members:
            member.plan = streamed(member.config, member.plan, member.state, member.position.at(drained.reached))
        for member in moved:
            member.manifest = _manifest(member)
            member.uri = places.stage.commit(member.manifest)
        applied = _apply(moved, places)
    found, warnings = _confirm(members, moved, places, drained, may_confirm)
    receipts = [_receipt(member, applied.get(member.load_id), places, watch, warnings) for member in members]
    waited = [_waited(receipt, drained.oldest) for receipt in receipts]
    return [dataclasses.replace(r, slot=found, waited_seconds=w) for r, w in zip(receipts, waited, strict=True)]


def _waited(receipt: Receipt, oldest: datetime | None) -> float | None:
    """By the clock of the source."""
    if oldest is None:
        return None
    return max(0.0, (receipt.watermark_after.snapshot.taken_at - oldest).total_seconds())


def _manifest(member: _Member) -> Manifest:
    """Of a table without changes it is written nowhere, and its watermark stays."""
    plan, state, attempt = member.plan, member.state, member.attempt
    after = plan.after(identity.canaries(state.watermark, plan.at, ()))
    return Manifest(
        table=member.config.qualified_name,
        load_id=member.load_id,
        prefix=attempt.prefix if attempt else "",
        disposition=Disposition.CHANGES,
        files=attempt.files if attempt else (),
        columns=plan.columns,
        key=plan.key,
        watermark_before=state.watermark,
        watermark_after=after if attempt or state.watermark is None else state.watermark,
        expected_sequence=state.run_sequence,
        expected_load_id=state.load_id,
        certificate=plan.certificate,
        parts=tuple(member.parts),
    )


def _apply(moved: Sequence[_Member], places: Places) -> dict[str, Applied]:
    """By load id."""
    increments = [
        Increment(member.config, member.manifest, member.plan.strategy.name) for member in moved if member.manifest
    ]
    if not increments:
        return {}
    with places.warehouse.session(query_tag=f"aurora_sync slot {moved[0].config.slot_name}") as session:
        applied = apply_all(session, increments, places.stage.store, log_schema=places.log_schema)
    return {increment.manifest.load_id: done for increment, done in zip(increments, applied, strict=True)}


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


def _receipt(
    member: _Member, applied: Applied | None, places: Places, watch: Stopwatch, warnings: tuple[str, ...]
) -> Receipt:
    config, plan, manifest, state = member.config, member.plan, member.manifest, member.state
    if applied and manifest:
        applied = dataclasses.replace(applied, adjusted=member.feed.changes.adjusted + applied.adjusted)
        warnings += tuple(map(str, applied.adjusted)) + tuple(change.text for change in applied.changes)
        state = State(
            applied.run_sequence,
            manifest.watermark_after,
            member.load_id,
            applied.target_rows,
            datetime.now(UTC),
            state.reconciled,
        )
    else:
        state = dataclasses.replace(state, idle_runs=state.idle_runs + 1)
    if applied or member.hinted is None or (config.reconcile and config.reconcile.every):
        warnings += sync.leave_hint(config, places, state, member.uri, None if applied else member.hinted)
    return receipt_of(
        config, plan, manifest or _manifest(member), state, applied, None, None, member.uri, watch, warnings
    )
