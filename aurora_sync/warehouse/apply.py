"""Apply manifests to their targets: fill staging tables, check them, then merge and record the state in one
transaction.

Applying is safe to kill at any point and to repeat. Before the COMMIT, neither the target nor the sync log has changed.
After the COMMIT, the run sequence has advanced; applying the same manifest again finds its own load id and stops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import DefectError, Kind, RivalRunError, TargetChangedError, WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.certificate import Finding
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.names import fold
from aurora_sync.model.receipt import Adjusted, Applied
from aurora_sync.model.watermark import Left, Watermark
from aurora_sync.warehouse import convert, ddl, evolve, history, merge, policies, sync_log, targets
from aurora_sync.warehouse.base import Objects, ReportedColumn, Session
from aurora_sync.warehouse.bounds import Bound
from aurora_sync.warehouse.ddl import Layout, TableName
from aurora_sync.warehouse.dispositions import append, changes, replace, upsert
from aurora_sync.warehouse.dispositions.base import Merging, Written, modified_outside
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.staged import Checked, assert_staged
from aurora_sync.warehouse.sync_log import Count, LogEntry

_log = foreign_text.logger(__name__)

_WRITE: dict[Disposition, Callable[[Merging], Written]] = {
    Disposition.UPSERT: upsert.write,
    Disposition.APPEND: append.write,
    Disposition.REPLACE: replace.write,
    Disposition.CHANGES: changes.write,
}

# Stages further rows of the increment after the manifest's files, and returns the manifest that includes them: the
# differences that a comparison found (engine/reconcile.py), or external files (engine/runners/files.py).
Complete = Callable[[Session, Layout], Manifest]


@dataclass(frozen=True)
class StagedIncrement:
    """One table's part of the increments that are applied together."""

    config: TableConfig
    manifest: Manifest
    strategy: str
    complete: Complete | None = None
    as_found: bool = False  # accept edited rows of the target, because they are going to be compared


@dataclass
class _Prepared:
    """A staged increment whose target is ready for it."""

    increment: StagedIncrement
    layout: Layout
    manifest: Manifest
    existing: dict[str, str]  # columns of the target; empty: there is no target yet
    found: dict[str, str]  # ``existing`` before this run adapted the target
    reported: Mapping[str, ReportedColumn]  # ``found``, with the names that the columns get
    adjusted: tuple[Adjusted, ...] = ()
    changes: tuple[Finding, ...] = ()
    bounds: tuple[Bound, ...] = ()

    def check(self, checked: Checked) -> None:
        self.layout, self.adjusted, self.bounds = checked.layout, checked.adjusted, checked.bounds

    def usable_bounds(self) -> tuple[Bound, ...]:
        """Return the bounds of the columns that have the type of the staged values: a column may have become text."""
        rules = {column.name: column.rule for column in self.layout.key}
        return tuple(bound for bound in self.bounds if bound.column.rule == rules[bound.column.name])


def apply_all(
    session: Session,
    increments: Sequence[StagedIncrement],
    objects: Objects,
    *,
    log_schema: str = sync_log.SCHEMA,
    allow_deletes: bool = False,
    on_phase: Callable[[str], object] | None = None,
) -> list[Applied]:
    """Apply each manifest, and the rows that its ``complete`` adds, to its target: durably, exactly once, and all of
    them or none, in one transaction. Returns the results in the order of ``increments``.

    Raises RivalRunError when another run was applied since ``manifest.expected_sequence``, GuardError when rows would
    be lost or removed (the targets are then unchanged), ConfigError and WarehouseError otherwise. ``allow_deletes``
    disables the delete guard, but no other check. With ``as_found``, rows of the target may have been edited since the
    last run; the log is written so that the next run still notices the edit. ``on_phase`` is called when the phases
    load and merge begin.
    """
    arguments = (session, increments, objects, log_schema, allow_deletes, on_phase or (lambda _: None))
    try:
        return _apply_all(*arguments)
    except RivalRunError:
        raise
    except WarehouseError as error:
        if error.kind is not Kind.REFUSED:
            raise
        # An increment relies on the tables of the sync log without a look: they may have been dropped.
        made = [sync_log.make(session, ddl.target_name(each.config), log_schema) for each in increments]
        if not any(made):
            raise
    return _apply_all(*arguments)


def _apply_all(
    session: Session,
    increments: Sequence[StagedIncrement],
    objects: Objects,
    log_schema: str,
    allow_deletes: bool,
    begin: Callable[[str], object],
) -> list[Applied]:
    # Every run locks fences in this order, so that two runs never wait for each other.
    ordered = sorted(increments, key=lambda increment: increment.config.target)
    started = monotonic()
    begin("load")
    prepared: list[_Prepared] = []
    try:
        try:
            for increment in ordered:
                session.about(QueryTag.of(increment.config, "load", increment.manifest.load_id))
                prepared.append(_staging(session, increment, log_schema))
                _prepare(session, prepared[-1], objects, log_schema)
            merging = monotonic()
            begin("merge")
            with session.transaction():
                entries = [_transact(session, p, log_schema, allow_deletes) for p in prepared]
        except WarehouseError as error:
            merging = monotonic()
            if len(prepared) < len(ordered):
                raise
            entries = [_committed_entry(session, p.layout, p.manifest, log_schema, error) for p in prepared]
    except BaseException:
        _drop_staging(session, [p.layout.staging for p in prepared])
        raise
    # Includes tables that killed attempts left behind. An attempt that is still running has lost its race to this one.
    _drop_staging(session, [table for p in prepared for table in ddl.staging_tables(session, p.layout)])
    seconds = {"load": merging - started, "merge": monotonic() - merging}
    done = {
        p.increment.config.target: Applied(
            entry.run_sequence,
            entry.inserted,
            entry.updated,
            entry.deleted,
            entry.target_rows,
            seconds,
            p.adjusted,
            p.changes,
            session.queries(p.manifest.load_id),
        )
        for p, entry in zip(prepared, entries, strict=True)
    }
    return [done[increment.config.target] for increment in increments]


def _staging(session: Session, increment: StagedIncrement, log_schema: str) -> _Prepared:
    """Prepare the sync log, and return the increment with the layout that its rows will be staged in."""
    config, manifest = increment.config, increment.manifest
    target = ddl.target_name(config)
    if manifest.expected_sequence == 0 or increment.complete:  # ``complete`` cannot be repeated
        sync_log.make(session, target, log_schema)
    reported = convert.settled(session, target, ddl.described(session, target))
    if reported and manifest.expected_sequence == 0:
        targets.refuse_iceberg(session, target)
    if manifest.taken:
        sync_log.prepare_taken(session, log_schema)
    existing = {name: column.type for name, column in reported.items()}
    to_rename = evolve.renames(existing, manifest)
    named = {to_rename.get(name, name): column for name, column in reported.items()}
    types = {name: column.type for name, column in named.items()}
    lengths = {name: column.length for name, column in named.items()}
    layout = ddl.layout(config, manifest, log_schema, types, lengths)
    policies.refuse(config, layout, manifest, named)
    return _Prepared(increment, layout, manifest, existing, dict(existing), named)


def _prepare(session: Session, p: _Prepared, objects: Objects, log_schema: str) -> None:
    """Stage the rows and make the target ready for them. All DDL happens here, because in Snowflake it commits."""
    config = p.increment.config
    session.query(ddl.create_staging(p.layout))
    loaded = session.load(p.layout.staging.sql, p.manifest, objects)
    p.check(assert_staged(session, config, p.layout, p.manifest, loaded))
    if p.existing:
        targets.drop_former_key(session, p.layout, p.manifest)
        p.layout, p.changes = evolve.adapt_target(session, config, p.layout, p.existing, p.manifest)
        if evolve.left_behind(p.existing, p.manifest):
            evolution = dataclasses.replace(p.manifest.evolution, rekeyed=True)
            p.manifest = dataclasses.replace(p.manifest, evolution=evolution)
        targets.follow_comments(session, p.layout, p.manifest)
        if p.manifest.expected_sequence == 0:
            _refuse_foreign(session, p.layout, p.manifest, log_schema)
            p.changes += policies.look(session, config, p.layout.match)
    if config.history:
        history.prepare(session, p.layout, p.manifest, objects)
    if p.increment.complete:
        staged, p.manifest = p.manifest.rows, p.increment.complete(session, p.layout)
        loaded += p.manifest.rows - staged
        p.check(assert_staged(session, config, p.layout, p.manifest, loaded))
        policies.refuse(config, p.layout, p.manifest, p.reported)
        if p.existing:
            p.layout, more = evolve.adapt_target(session, config, p.layout, p.existing, p.manifest)
            p.changes += more
    if not p.existing:  # last: a refused first load must leave no table
        targets.make(session, config, p.layout, p.manifest)


def _transact(session: Session, p: _Prepared, log_schema: str, allow_deletes: bool) -> LogEntry:
    layout, manifest = p.layout, p.manifest
    session.about(QueryTag.of(p.increment.config, "merge", manifest.load_id))
    newest, before = sync_log.advance(session, layout, manifest, log_schema)
    sequence = manifest.expected_sequence + 1
    merging = Merging(
        session,
        p.increment.config,
        layout,
        manifest,
        sequence,
        datetime.now(UTC),
        before,
        allow_deletes,
        p.usable_bounds(),
    )
    last = None
    if manifest.disposition is not Disposition.REPLACE:
        last = _assert_as_it_was_left(p, newest, before)
    for name, text in manifest.fill.items():
        session.modify(merge.fill(layout, fold(name)), (text, *merging.written, text))
    written = _WRITE[manifest.disposition](merging)
    after = _count_after(merging, written, p.increment.as_found)
    changed = written.inserted + written.updated if written.left is None else written.left
    inserted = min(written.inserted, changed)
    recorded_as = sync_log.as_if_not_edited(last, before, after) if p.increment.as_found and last else after
    entry = LogEntry(
        source_table=manifest.table,
        target=layout.target.sql,
        run_sequence=sequence,
        load_id=manifest.load_id,
        applied_at=merging.now,
        strategy=p.increment.strategy,
        disposition=manifest.disposition.value,
        watermark=dataclasses.replace(manifest.watermark_after, left=_left(session, p, recorded_as.sums)).to_json(),
        staged_rows=manifest.rows,
        inserted=inserted,
        updated=changed - inserted,
        deleted=written.deleted,
        target_rows=recorded_as.present,
        source_rows=manifest.source_rows,
        manifest_prefix=manifest.prefix,
        snapshot_xmin=manifest.watermark_after.snapshot.xmin,
        snapshot_xmax=manifest.watermark_after.snapshot.xmax,
        certificate=manifest.certificate.to_json(),
    )
    sync_log.record(session, entry, layout.target, log_schema)
    sync_log.record_taken(session, layout.target, sequence, manifest.taken, log_schema)
    return dataclasses.replace(entry, target_rows=after.present)


def _count_after(merging: Merging, written: Written, as_found: bool) -> Count:
    """Return the counts of the target after this run. Where MERGE's own numbers give the count of rows, the target is
    not read: :func:`sync_log.record` checks the count and computes the sums."""
    before = merging.before
    counted = Count(
        rows := before.rows + written.inserted - written.removed, rows, sync_log.sums_of(merging.manifest.load_id)
    )
    marked = merging.layout.marks and (before.rows or written.deleted)
    if marked or as_found or (before.rows and written.whole is not None):
        counted = merging.count()
    return counted if written.whole is None else _assert_whole(merging, written.whole, counted)


def _assert_whole(merging: Merging, whole: int, after: Count) -> Count:
    """Check that the target holds as many rows as the source, and return its count. If somebody duplicated keys by
    hand, delete the rows of these keys and merge them again first. Raises DefectError."""
    layout = merging.layout
    if after.present == whole:
        return after
    if layout.key and merging.session.modify(merge.delete_doubled(layout)):
        merging.session.modify(merge.merge(layout), merging.written)
        after = merging.count()
    if after.present != whole:
        raise DefectError(
            f"{layout.target} has {after.present} rows, but the source has {whole}",
            where=merging.manifest.table,
            hint="the merge was rolled back; if the merge key was changed, drop the target and sync again",
        )
    return after


def _left(session: Session, p: _Prepared, sums_of_rows: str) -> Left:
    """Return the state of the target after this run, by which the next run notices changes."""
    written = {name: p.existing.get(name) or evolve.as_reported(type_) for name, type_ in p.layout.types.items()}
    columns = p.found or p.layout.types  # a target that this run made
    if p.found and not (p.existing == p.found and written.keys() <= p.found.keys()):
        columns = ddl.existing_columns(session, p.layout.target)
    return Left(written, sums_of_rows, [name for name in columns if name in written])


def _assert_as_it_was_left(p: _Prepared, entry: LogEntry | None, now: Count) -> LogEntry | None:
    """Check that the target is as the previous run left it, because an increment is only correct on top of that state.
    ``entry`` is the newest of the sync log. Returns the entry of the previous run; None when there is none. Raises
    TargetChangedError or RivalRunError."""
    target, manifest = p.layout.target, p.manifest
    if manifest.expected_sequence == 0 and not now.present:
        return None
    if entry is None or (entry.run_sequence, entry.load_id) != (manifest.expected_sequence, manifest.expected_load_id):
        changed = f"it has {now.present} rows, but the sync log has no entry for run {manifest.expected_sequence}"
    elif p.increment.as_found:
        changed = sync_log.columns_changed(entry, p.found)
    else:
        changed = sync_log.difference(entry, p.found, now)
        compared = p.increment.complete and manifest.disposition is Disposition.UPSERT
        if not (changed or compared):
            changed = sync_log.edited(entry, now)
    if changed:
        raise TargetChangedError(
            f"{target}: {changed}",
            where=manifest.table,
            hint=modified_outside(manifest),
        )
    assert entry
    known = dataclasses.replace(Watermark.from_json(entry.watermark), left=None)
    if manifest.watermark_before not in (None, known):
        raise RivalRunError(
            f"the hint in S3 and the sync log have different watermarks for run {manifest.expected_sequence}",
            where=str(target),
            hint="this run applied nothing, and no row is lost: run again",
        )
    return entry


def _refuse_foreign(session: Session, layout: Layout, manifest: Manifest, log_schema: str) -> None:
    """Raise WarehouseError if the table has rows that no run in the log wrote. An empty table may be from an attempt of
    ours that never committed."""
    count = sync_log.count(session, layout.target, marks=layout.marks)
    if count.rows and sync_log.find(session, layout.target, 1, log_schema) is None:
        raise WarehouseError(
            f"{layout.target} has rows, but the sync log in {log_schema} has no run that wrote them",
            where=manifest.table,
            hint="drop or rename the target to load it in full, or set AURORA_SYNC_SCHEMA to the schema of its log",
        )


def _committed_entry(
    session: Session, layout: Layout, manifest: Manifest, log_schema: str, error: WarehouseError
) -> LogEntry:
    """Return the log entry if the transaction was committed despite ``error``. Raises RivalRunError if a rival was
    committed instead, else ``error``."""
    try:
        entry = sync_log.find(session, layout.target, manifest.expected_sequence + 1, log_schema)
    except WarehouseError as unread:
        error.add_note(f"the sync log, which says whether the run was committed, could not be read: {unread}")
        raise error from unread
    if entry is None or (isinstance(error, RivalRunError) and entry.load_id != manifest.load_id):
        raise error
    if entry.load_id != manifest.load_id:
        raise RivalRunError(
            f"another run (load id {entry.load_id}) was applied as run sequence {entry.run_sequence}",
            where=str(layout.target),
        ) from error
    return entry


def _drop_staging(session: Session, tables: list[TableName]) -> None:
    """Drop staging tables, and only log failures: the increment is decided, and the next one drops the tables left
    behind."""
    for table in tables:
        try:
            session.query(ddl.drop_table(table))
        except WarehouseError as error:
            _log.warning("could not drop the staging table %s, which the next run drops: %s", table, error)
