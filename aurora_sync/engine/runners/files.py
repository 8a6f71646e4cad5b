"""One increment of one table from the files of its DMS task, top to bottom.

::

    look at the table as a sync does ─► scan it when the files are incomplete (engine/sync.py)
        ─► list the folder; unchanged since the last run: stop, without starting a warehouse
        ─► one session: ledger ─► the warehouse copies new files from their folder ─► net changes, in SQL
        ─► one transaction {changes, ledger, sync log row}

The ledger lists files by key and etag, and is written in the transaction that merges them: each file is taken exactly
once, even after a kill and a new run. The full load comes before the changes; older changes are not in the files.

In transaction folders, changes are read by their position in a row, and always after a scan: the format of a full load
without a header is not documented.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners.base import problems_of
from aurora_sync.engine.runners.member import Member
from aurora_sync.engine.runners.stream import Scan, StreamRunner
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.dms_columns import BEFORE, NULL, OP, SEQUENCE
from aurora_sync.model.manifest import Manifest, Part, TakenFile
from aurora_sync.model.receipt import Consumed, Receipt
from aurora_sync.model.watermark import Watermark
from aurora_sync.objects.store import Store
from aurora_sync.source.database import Source
from aurora_sync.source.dms import files as dms_files
from aurora_sync.source.dms.files import File
from aurora_sync.strategies.dms import FilesPosition, folder_of, position_after_scan, position_in, why_scan
from aurora_sync.warehouse import raw_files as statements
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout, drop_table
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

# The limits of one increment; the next run takes the remaining files.
MOST_FILES, MOST_BYTES = 1000, 20_000_000_000


@dataclass(kw_only=True)
class _FilesMember(Member):
    store: Store
    files: list[File]
    fields: list[str]  # of a row without a header, after operation, table and schema
    position: FilesPosition
    is_new: bool  # no file of the folder was taken yet
    scanned_at: datetime | None  # the scan's snapshot, when no file was taken since
    prefix: str = ""
    oldest: datetime | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.is_new and self.position.digest == dms_files.digest(self.files)


class FilesRunner(StreamRunner[_FilesMember]):
    """The runner of the strategy dms. Raises SourceError when the files are not as provisioning/dms_task.py configures
    them."""

    marked_together = False

    def position(self, found: Look) -> tuple[FilesPosition | None, str]:
        _, why = _files_or_scan(found)
        return (None, why) if why else (_position(found), "")

    def member_or_scan(self, found: Look, places: Places) -> _FilesMember | str:
        found.close_snapshot()  # listing a folder may take long
        files, why = _files_or_scan(found)
        if why:
            return why
        config, watermark = found.config, _watermark(found)
        position = position_in(config, watermark)
        return _FilesMember(
            **vars(found),
            store=Store.from_url(config.files or ""),
            files=files,
            fields=dms_files.fields(found.reading.table),
            position=_position(found),
            is_new=position is None,
            scanned_at=watermark.snapshot.taken_at if watermark and position is None else None,
        )

    def apply(
        self, members: Sequence[_FilesMember], places: Places, *, may_forget: bool
    ) -> tuple[list[Receipt], list[Scan]]:
        """Apply new files. The ledger records them; the files stay in their folder, so ``may_forget`` is not used."""
        return [_take(member, places) for member in members], []

    def missing_after(self, member: _FilesMember, receipt: Receipt) -> str:
        if receipt.consumed and receipt.consumed.behind:
            return f"{receipt.consumed.behind:,} files are left for the next runs"
        return "; ".join(member.plan.read.doubts)

    def files_before_scan(self, config: TableConfig) -> tuple[TakenFile, ...]:
        return tuple(file.taken for file in dms_files.of_table(config))

    def marks(self, tables: Sequence[TableConfig], source: Source) -> dict[str, str]:
        """Return a digest of the files of each table: the source's own counters are ahead of the files."""
        return {table.qualified_name: f"files {dms_files.digest(dms_files.of_table(table))}" for table in tables}

    def problems(self, tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
        for table in tables:
            yield from problems_of(partial(dms_files.of_table, table))


def _files_or_scan(found: Look) -> tuple[list[File], str]:
    """Return the files of the table; or none, and the reason why the table must be scanned. Raises ConfigError when the
    task has not loaded the table yet."""
    config, plan, watermark = found.config, found.plan, _watermark(found)
    why = why_scan(position_in(config, watermark), watermark, plan.verdict.findings, plan.at.token)
    why = why or plan.due
    if not why and found.state.watermark and watermark is None:
        why = "the watermark of the target is not valid any more"
    files = [] if why else dms_files.of_table(config)
    if not why and watermark is None and not any(file.load is not None for file in files):
        raise ConfigError(
            f"found no file LOAD00000001 of a full load under {config.files}/{config.schema_}/{config.table_name}/",
            where=config.qualified_name,
            hint="set the migration type of the DMS task to full-load-and-cdc, and wait until it has loaded the table",
        )
    if not why and watermark is None and config.cdc_path:
        why = "the full load has no header"
    return ([], why) if why else (files, "")


def _watermark(found: Look) -> Watermark | None:
    since = found.plan.verdict.since
    return since.watermark if since else None


def _position(found: Look) -> FilesPosition:
    config, watermark = found.config, _watermark(found)
    # A scan before this run has taken the files that existed then.
    since = found.state.run_sequence - (watermark is not None)
    position = position_in(config, watermark) or position_after_scan(config, watermark, since)
    return position.seen_at(found.plan.at.snapshot)


def _take(table: _FilesMember, places: Places) -> Receipt:
    watch, config = Stopwatch(), table.config
    if table.idle:
        table.reach(table.position)
        return table.receipt(None, places, watch, (), None)
    with places.stage.attempt(config.qualified_name, table.load_id) as attempt:
        table.prefix = attempt.prefix
    # The position after the files is known once they are copied; _copy makes the plan final.
    table.reach(table.position)
    increment = StagedIncrement(
        config,
        table.manifest(prefix=table.prefix, files=()),
        table.plan.strategy.name,
        partial(_copy, table, places),
        as_found=table.plan.verifies,
    )
    with places.warehouse.session(query_tag=QueryTag.of(config, "load", table.load_id)) as session:
        (applied,) = apply_all(session, [increment], places.stage.store, log_schema=places.log_schema)
    assert table.staged is not None
    taken = len(table.staged.taken)
    receipt = table.receipt(applied, places, watch, tuple(table.warnings), table.oldest)
    left = 0 if table.position.digest else len(table.files) - taken
    return dataclasses.replace(receipt, consumed=Consumed(folder_of(config), taken, left))


def _copy(table: _FilesMember, places: Places, session: Session, layout: Layout) -> Manifest:
    """Stage the net changes of all files that are not in the ledger, and commit the manifest of the increment."""
    sync_log.prepare_taken(session, places.log_schema)
    ledger = sync_log.taken(session, layout.target, table.position.since, places.log_schema)
    new = [file for file in table.files if file.id not in ledger]
    superseded = {file.id for file in dms_files.superseded(table.files, table.scanned_at)}
    chosen = _bounded(new)
    timely = [file for file in chosen if file.id not in superseded]
    # After a scan the position has no change sequence yet. Names of change files are the times when they were written,
    # and show which files came late.
    newest = max((name for key, _ in ledger if not (name := key.rpartition("/")[2]).startswith("LOAD")), default="")
    behind = {file.id for file in timely if file.load is None and file.name < newest}
    timely = [file for file in timely if file.id not in behind]
    wanted = [file for file in timely if file.load is None or not table.config.cdc_path]
    loaded = any(file.load is not None for file in timely)
    rescan = _rescan_reason(table, new, loaded, ledger)
    if behind:
        rescan = rescan or f"{len(behind)} files arrived late: they are older than {newest}, which was already applied"
    dms_files.assert_whole(table.store, wanted)
    fields = _fields(table, wanted, loaded)
    lacking = sorted({name for file in wanted for name in _lacking(table, file)})
    if lacking:
        rescan = (
            rescan
            or f"files lack {', '.join(lacking)}: the files are older than the column, or the table mapping excludes it"
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
    before = table.position
    table.position = FilesPosition(before.folder, before.since, digest, loads, rescan, fields, sequence)
    table.reach(table.position)
    table.staged = table.manifest(
        prefix=table.prefix,
        files=(),
        parts=parts,
        net_rows=int(rows),
        taken=tuple(file.taken for file in chosen),
    )
    table.uri = places.stage.commit(table.staged)
    return table.staged


def _copy_files(table: _FilesMember, session: Session, layout: Layout, files: list[File]) -> int:
    """Copy the files into the raw table. Returns the number of rows of full loads."""
    raw, mixed, config = statements.raw_table(layout).sql, statements.mixed_table(layout), table.config
    if config.cdc_path:
        width = len(table.fields) + 4  # one extra column, which must be empty
        session.query(statements.create_mixed(layout, width))
        try:
            session.copy_ragged(mixed.sql, table.store, [file.taken for file in files], width, NULL)
            session.modify(statements.pick(layout, (config.schema_, config.table_name), table.fields))
        finally:
            session.query(drop_table(mixed))
        return 0
    loads = [file.taken for file in files if file.load is not None]
    changes = [file.taken for file in files if file.load is None]
    columns = statements.raw_columns(layout)
    of_load = session.copy_files(raw, columns, table.store, loads, NULL) if loads else 0
    if changes:
        session.copy_files(raw, columns, table.store, changes, NULL)
    return of_load


def _checked(table: _FilesMember, session: Session, layout: Layout, of_load: int) -> tuple[str, str]:
    """Validate the raw table. Returns the newest change sequence that the target has after this run, and the reason why
    the next run must scan the table (empty: none).

    Changes older than those taken before are removed: they would set rows back to older values.
    """
    ((null, no_operation, no_sequence, oldest, newest),) = session.query(statements.survey(layout))
    if null is not None:
        raise ConfigError(
            f"the DMS task does not write {NULL!r} for NULL, but a text that can also be a value",
            where=table.config.qualified_name,
            values=repr(null),
            hint=f"set CsvNullValue of the endpoint's S3Settings to {NULL}, as `aurora-sync cdc dms` prints it, and"
            " reload the table with the task",
        )
    if no_operation or no_sequence > of_load:
        raise SourceError(
            f"{no_operation} rows lack I, U or D in {OP}, and {max(0, no_sequence - of_load)} changes lack {SEQUENCE}"
            + (f" behind {len(table.plan.columns)} columns" if table.config.cdc_path else ""),
            where=table.config.qualified_name,
            hint="configure endpoint and task as `aurora-sync cdc dms` prints them, and reload the table with the task",
            kind=Kind.REFUSED,
        )
    if oldest:
        table.oldest = datetime.fromisoformat(oldest).replace(tzinfo=UTC)
    taken = table.position.sequence
    late = session.modify(statements.drop_older(layout), (taken,)) if taken else 0
    why = (
        f"{late} changes arrived late: they are older than the change {taken}, which was already applied"
        if late
        else ""
    )
    until = table.position.altered_until
    if table.oldest and until and table.oldest < datetime.fromisoformat(until):
        why = why or f"some changes were committed before {until}, when the table was altered or read again"
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


def _lacking(table: _FilesMember, file: File) -> list[str]:
    if table.config.cdc_path:
        return []
    old_keys = [BEFORE + name for name in table.plan.key if BEFORE + name in table.fields]
    return dms_files.lacking(table.store, file, [column.name for column in table.plan.columns], old_keys)


def _fields(table: _FilesMember, wanted: list[File], loaded: bool) -> str:
    """Return a digest of the fields of rows without a header. Raises SourceError when the fields changed since the last
    run, because the rows do not show which columns they have; except when a full load came in between, which leads to a
    scan."""
    if not table.config.cdc_path:
        return ""
    fields = hashlib.sha256("\0".join(table.fields).encode()).hexdigest()[:16]
    if wanted and not loaded and table.position.fields not in ("", fields):
        raise SourceError(
            "the columns of the table changed, and the files in transaction folders have no column names",
            where=table.config.qualified_name,
            hint="reload the table with the DMS task: the next run then scans it and continues with the later changes",
            kind=Kind.REFUSED,
        )
    return fields if wanted or loaded else table.position.fields


def _rescan_reason(table: _FilesMember, new: list[File], loaded: bool, ledger: set[tuple[str, str]]) -> str:
    """Return why the next run must scan the table; empty when the files are complete. A load that is repeated, or comes
    after a scan, does not list rows that were deleted before it. A TRUNCATE at the source is not a change: the task
    deletes the table's files."""
    if loaded and (table.scanned_at or table.config.cdc_path):
        return "the task has loaded the table since the scan, and earlier deletes are in no file"
    known = {key for key, _ in ledger}
    changes_taken = any(not key.rpartition("/")[2].startswith("LOAD") for key in known)
    if any(file.load is not None and (file.stored.key in known or changes_taken) for file in new):
        return "the task has loaded the table again, and earlier deletes are in no file"
    loads = sum(file.load is not None for file in table.files)
    if loads < table.position.loads:
        return "files of the full load were deleted, by a TRUNCATE at the source or a lifecycle rule"
    return ""
