"""One table from the files of its DMS task, one increment, top to bottom.

::

    look at the table as a sync does ─► scan it where the files do not say everything (engine/sync.py)
        ─► list the folder; as the last run left it: nothing to do, and no warehouse is woken
        ─► one session: ledger ─► the warehouse copies new files from where they lie ─► net changes, in SQL
        ─► one transaction {changes, ledger, sync log row}

Files are named by key and etag in the ledger, in the transaction that merges them: each is taken once, whatever is
killed and run again. The full load comes before the changes, and changes from before it do not come at all.

Of transaction folders the changes are taken by their place in a row, and behind a scan: what of a full load without a
header means what is not documented.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints
from aurora_sync.engine.member import Member, compared, follow, plan_of_stream
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_increment
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import not_compared, state_as_found
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.dms_columns import BEFORE, NULL, OP, SEQUENCE
from aurora_sync.model.manifest import Manifest, Part, TakenFile
from aurora_sync.model.receipt import Consumed, Receipt
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark
from aurora_sync.objects.store import Store
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.dms import files as dms_files
from aurora_sync.source.dms.files import File
from aurora_sync.strategies.dms import FilesPosition, folder_of, position_after_scan, position_in, why_scan
from aurora_sync.warehouse import raw_files as statements
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.apply import StagedIncrement, apply_all
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout, drop_table

# Of one increment; what is left is the next run's.
MOST_FILES, MOST_BYTES = 1000, 20_000_000_000


@dataclass(kw_only=True)
class _Table(Member):
    store: Store
    files: list[File]
    fields: list[str]  # of a row without a header, behind operation, table and schema
    position: FilesPosition
    is_new: bool  # nothing of the folder was taken yet
    scanned_at: datetime | None  # and the target is as a scan left it
    prefix: str = ""
    oldest: datetime | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.is_new and self.position.digest == dms_files.digest(self.files)


def run(
    config: TableConfig,
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the target up to the files that were there when this call began. Raises as
    :func:`aurora_sync.engine.sync.run` does, and SourceError where the files are not such as
    provisioning/dms.py configures."""

    def lying() -> tuple[TakenFile, ...]:
        return tuple(file.taken for file in dms_files.of_table(config))

    follow(config, places, on_receipt, _look, _take, lying=lying, allow_deletes=allow_deletes, on_progress=on_progress)


def verify(config: TableConfig, places: Places) -> Receipt:
    """Apply the files of the task, and nothing else, and compare the target with a snapshot of the source from the
    moment before they were listed.

    Raises NotComparedError where a run would scan the table instead, and where one run does not take all files.
    """
    state = state_as_found(config, places)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions(verify=True))
        table = _table(config, state, None, plan, dms_files.fields(reading.table))
        if isinstance(table, str):
            raise not_compared(config, table)
        receipt = _take(table, places)
        if receipt.consumed and receipt.consumed.behind:
            raise not_compared(config, f"{receipt.consumed.behind:,} files are left for the next runs")
        if table.plan.read.doubts:
            raise not_compared(config, "; ".join(table.plan.read.doubts))
        return compared(table, places, reading, receipt)


def _look(config: TableConfig, places: Places, trust_hint: bool) -> _Table | str:
    """The table with its files, or why it must be scanned; that never by a hint alone."""
    state, hinted = hints.read_state(config, places, trust_hint=trust_hint)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan, fields = plan_increment(config, reading, state, RunOptions()), dms_files.fields(reading.table)
    found = _table(config, state, hinted, plan, fields)
    return _look(config, places, False) if hinted and isinstance(found, str) else found


def _table(config: TableConfig, state: State, hinted: datetime | None, plan: Plan, fields: list[str]) -> _Table | str:
    watermark = _watermark(plan)
    position = position_in(config, watermark)
    files, why = files_or_scan(config, plan, state)
    if why:
        return why
    return _Table(
        config=config,
        state=state,
        hinted=hinted,
        plan=plan,
        as_found=plan.verifies,
        store=Store.from_url(config.files or ""),
        files=files,
        fields=fields,
        position=_position(config, plan, state),
        is_new=position is None,
        scanned_at=watermark.snapshot.taken_at if watermark and position is None else None,
    )


def plan_of_files(config: TableConfig, plan: Plan, state: State) -> Plan:
    """The plan of a scan as that of a run that takes files; what they say is not known before it."""
    return plan_of_stream(config, plan, state, _position(config, plan, state))


def files_or_scan(config: TableConfig, plan: Plan, state: State) -> tuple[list[File], str]:
    """The files of the table; or none, and why the table must be scanned. Raises ConfigError where it was not loaded
    yet."""
    watermark = _watermark(plan)
    why = why_scan(position_in(config, watermark), watermark, plan.verdict.findings, plan.at.token)
    why = why or plan.due
    if not why and state.watermark and watermark is None:
        why = "what the target has is of no use any more"
    files = [] if why else dms_files.of_table(config)
    if not why and watermark is None and not any(file.load is not None for file in files):
        raise ConfigError(
            f"there is no LOAD00000001 of a full load under {config.files}/{config.schema_}/{config.table_name}/",
            where=config.qualified_name,
            hint="let the DMS task be full-load-and-cdc, and wait until it has loaded the table",
        )
    if not why and watermark is None and config.cdc_path:
        why = "the full load has no header"
    return ([], why) if why else (files, "")


def _watermark(plan: Plan) -> Watermark | None:
    return plan.verdict.since.watermark if plan.verdict.since else None


def _position(config: TableConfig, plan: Plan, state: State) -> FilesPosition:
    watermark = _watermark(plan)
    # A scan before this run has taken the files that lay there.
    since = state.run_sequence - (watermark is not None)
    found = position_in(config, watermark) or position_after_scan(config, watermark, since)
    return found.seen_at(plan.at.snapshot)


def _take(table: _Table, places: Places) -> Receipt:
    watch, config = Stopwatch(), table.config
    if table.idle:
        table.reach(table.position)
        return table.receipt(None, places, watch, (), None)
    with places.stage.attempt(config.qualified_name, table.load_id) as attempt:
        table.prefix = attempt.prefix
    # What the files say is known once they are copied: the plan is made final there.
    table.reach(table.position)
    increment = StagedIncrement(
        config,
        table.manifest_of(prefix=table.prefix),
        table.plan.strategy.name,
        partial(_copy, table, places),
        as_found=table.as_found,
    )
    with places.warehouse.session(query_tag=f"aurora_sync {config.qualified_name} {table.load_id}") as session:
        (applied,) = apply_all(session, [increment], places.stage.store, log_schema=places.log_schema)
    manifest = table.manifest
    assert manifest is not None
    receipt = table.receipt(applied, places, watch, tuple(table.warnings), table.oldest)
    left = 0 if FilesPosition(**manifest.watermark_after.value).digest else len(table.files) - len(manifest.taken)
    return dataclasses.replace(receipt, consumed=Consumed(folder_of(config), len(manifest.taken), left))


def _copy(table: _Table, places: Places, session: Session, layout: Layout) -> Manifest:
    """Stage the net changes of all files that the ledger does not have, and commit the manifest with them."""
    sync_log.prepare_taken(session, places.log_schema)
    ledger = sync_log.taken(session, layout.target, table.position.since, places.log_schema)
    new = [file for file in table.files if file.id not in ledger]
    superseded = {file.id for file in dms_files.superseded(table.files, table.scanned_at)}
    chosen = _bounded(new)
    timely = [file for file in chosen if file.id not in superseded]
    # What a scan has taken has no sequence: names of files are the times when they were written.
    newest = max((name for key, _ in ledger if not (name := key.rpartition("/")[2]).startswith("LOAD")), default="")
    behind = {file.id for file in timely if file.load is None and file.name < newest}
    timely = [file for file in timely if file.id not in behind]
    wanted = [file for file in timely if file.load is None or not table.config.cdc_path]
    loaded = any(file.load is not None for file in timely)
    rescan = _what_files_do_not_say(table, new, loaded, ledger)
    if behind:
        rescan = rescan or f"{len(behind)} files came late, written before {newest}, which was taken already"
    dms_files.assert_whole(table.store, wanted)
    fields = _fields(table, wanted, loaded)
    lacking = sorted({name for file in wanted for name in _lacking(table, file)})
    if lacking:
        rescan = (
            rescan or f"files lack {', '.join(lacking)}: they are older than the column, or the mapping leaves it out"
        )
    parts: tuple[Part, ...] = (Part(),)
    sequence = table.position.sequence
    if wanted:
        session.query(statements.create_raw(layout))
        try:
            of_load = _copy_files(table, session, layout, wanted)
            sequence, late = _checked(table, session, layout, of_load)
            rescan = rescan or late
            parts = _net_changes(session, layout)
        finally:
            session.query(drop_table(statements.raw_table(layout)))
    ((rows,),) = session.query(f"SELECT COUNT(*) FROM {layout.staging.sql}")  # noqa: S608
    if rescan:
        table.warnings.append(f"the next run scans the table: {rescan}")
    loads = sum(file.load is not None for file in table.files)
    digest = dms_files.digest(table.files) if len(chosen) == len(new) else ""
    position = table.position
    table.reach(FilesPosition(position.folder, position.since, digest, loads, rescan, fields, sequence))
    table.manifest = table.manifest_of(
        prefix=table.prefix,
        parts=parts,
        net_rows=int(rows),
        taken=tuple(file.taken for file in chosen),
    )
    table.uri = places.stage.commit(table.manifest)
    return table.manifest


def _copy_files(table: _Table, session: Session, layout: Layout, files: list[File]) -> int:
    """Into the raw table. Returns how many rows are of a full load."""
    raw, mixed, config = statements.raw_table(layout).sql, statements.mixed_table(layout), table.config
    if config.cdc_path:
        width = len(table.fields) + 4  # one beyond: it must be empty
        session.query(statements.create_mixed(layout, width))
        try:
            session.copy_ragged(mixed.sql, table.store, [file.taken for file in files], width, NULL)
            session.modify(statements.pick(layout, (config.schema_, config.table_name), table.fields))
        finally:
            session.query(drop_table(mixed))
        return 0
    loads = [file.taken for file in files if file.load is not None]
    changes = [file.taken for file in files if file.load is None]
    of_load = session.copy_files(raw, table.store, loads, NULL) if loads else 0
    if changes:
        session.copy_files(raw, table.store, changes, NULL)
    return of_load


def _checked(table: _Table, session: Session, layout: Layout, of_load: int) -> tuple[str, str]:
    """Look at the raw table. Returns the newest change sequence that the target has behind this run, and why the next
    run must scan the table.

    Changes that are older than what was taken before are left out: they would set rows back.
    """
    ((null, no_operation, no_sequence, oldest, newest),) = session.query(statements.survey(layout))
    if null is not None:
        raise ConfigError(
            f"the DMS task does not write {NULL!r} for NULL, but a text that a value may be too",
            where=table.config.qualified_name,
            values=repr(null),
            hint=f"set CsvNullValue of the endpoint's S3Settings to {NULL}, as `aurora-sync cdc dms` prints it, and"
            " load the table again",
        )
    if no_operation or no_sequence > of_load:
        raise SourceError(
            f"{no_operation} rows have no I, U or D in {OP}, and {max(0, no_sequence - of_load)} changes no {SEQUENCE}"
            + (f" behind {len(table.plan.columns)} columns" if table.config.cdc_path else ""),
            where=table.config.qualified_name,
            hint="set up endpoint and task as `aurora-sync cdc dms` prints them, and load the table again",
            kind=Kind.REFUSED,
        )
    if oldest:
        table.oldest = datetime.fromisoformat(oldest).replace(tzinfo=UTC)
    taken = table.position.sequence
    late = session.modify(statements.drop_older(layout), (taken,)) if taken else 0
    why = f"{late} changes came late, older than the change {taken} that was taken before" if late else ""
    until = table.position.altered_until
    if table.oldest and until and table.oldest < datetime.fromisoformat(until):
        why = why or f"changes came that were committed before {until}, when the table was altered or read anew"
    return max(taken, newest or ""), why


def _net_changes(session: Session, layout: Layout) -> tuple[Part, ...]:
    ((partial_rows,),) = session.query(statements.count_partial(layout))
    stage = statements.stage_partial if partial_rows else statements.stage_whole
    session.modify(stage(layout))
    found = {int(number): int(count) for number, count in session.query(statements.count_parts(layout))}
    return tuple(Part(partial=found.get(number, 0)) for number in range(max(found, default=0) + 1))


def _bounded(files: list[File]) -> list[File]:
    chosen: list[File] = []
    size = 0
    for file in files[:MOST_FILES]:
        size += file.stored.bytes
        if chosen and size > MOST_BYTES:
            break
        chosen.append(file)
    return chosen


def _lacking(table: _Table, file: File) -> list[str]:
    if table.config.cdc_path:
        return []
    old_keys = [BEFORE + name for name in table.plan.key if BEFORE + name in table.fields]
    return dms_files.lacking(table.store, file, [column.name for column in table.plan.columns], old_keys)


def _fields(table: _Table, wanted: list[File], loaded: bool) -> str:
    """A digest of what rows without a header have. Raises SourceError where that changed since they were last taken:
    which rows have which columns is not to be told, unless a full load, which leads to a scan, is between them."""
    if not table.config.cdc_path:
        return ""
    fields = hashlib.sha256("\0".join(table.fields).encode()).hexdigest()[:16]
    if wanted and not loaded and table.position.fields not in ("", fields):
        raise SourceError(
            "the columns of the table changed, and rows in transaction folders have no names of columns",
            where=table.config.qualified_name,
            hint="let the DMS task load the table again: the next run then scans it, and goes on with what comes since",
            kind=Kind.REFUSED,
        )
    return fields if wanted or loaded else table.position.fields


def _what_files_do_not_say(table: _Table, new: list[File], loaded: bool, ledger: set[tuple[str, str]]) -> str:
    """A load that is repeated, or comes after a scan, says nothing of rows that were deleted before it, and a TRUNCATE
    at the source is no change: the task takes the table's files away."""
    if loaded and (table.scanned_at or table.config.cdc_path):
        return "the task has loaded the table since the scan, and what was deleted before is in no file"
    known = {key for key, _ in ledger}
    changes_taken = any(not key.rpartition("/")[2].startswith("LOAD") for key in known)
    if any(file.load is not None and (file.stored.key in known or changes_taken) for file in new):
        return "the task has loaded the table again, and what was deleted before is in no file"
    loads = sum(file.load is not None for file in table.files)
    if loads < table.position.loads:
        return "files of the full load are gone: a TRUNCATE at the source takes them away, and so does a lifecycle rule"
    return ""
