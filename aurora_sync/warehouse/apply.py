"""Apply manifests to their targets: fill staging tables, check them, then merge and record the state in one
transaction.

Applying is safe to kill at any point and to repeat. Before the COMMIT, neither the target nor the sync log has changed.
After the COMMIT, the run sequence has advanced; applying the same manifest again finds its own load id and stops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

from aurora_sync.errors import DefectError, Kind, RivalRunError, TargetChangedError, WarehouseError
from aurora_sync.model import foreign_text, tracing
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Applied
from aurora_sync.model.watermark import Watermark
from aurora_sync.warehouse import ddl, evolve, merge, resume, sync_log, targets
from aurora_sync.warehouse.base import Objects, Session
from aurora_sync.warehouse.ddl import Layout
from aurora_sync.warehouse.dispositions import append, changes, replace, upsert
from aurora_sync.warehouse.dispositions.base import Merging, Written, modified_outside
from aurora_sync.warehouse.prepare import (
    Prepared,
    StagedIncrement,
    check_after_all,
    drop_staging,
    left,
    prepare,
    staging,
)
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.staged import doubled_keys
from aurora_sync.warehouse.sync_log import Count, LogEntry

_log = foreign_text.logger(__name__)

_WRITE: dict[Disposition, Callable[[Merging], Written]] = {
    Disposition.UPSERT: upsert.write,
    Disposition.APPEND: append.write,
    Disposition.REPLACE: replace.write,
    Disposition.CHANGES: changes.write,
}


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
    prepared: list[Prepared] = []
    try:
        try:
            with tracing.span("load"):
                for increment in ordered:
                    session.about(QueryTag.of(increment.config, "load", increment.manifest.load_id))
                    prepared.append(staging(session, increment, log_schema))
                    prepare(session, prepared[-1], objects, log_schema, may_be_unchecked=True)
            merging = monotonic()
            begin("merge")
            with tracing.span("merge"):
                entries = _merge(session, prepared, log_schema, allow_deletes)
        except WarehouseError as error:
            merging = monotonic()
            if len(prepared) < len(ordered):
                raise
            entries = [_committed_entry(session, p.layout, p.manifest, log_schema, error) for p in prepared]
    except BaseException:
        drop_staging(session, [p.layout.staging for p in prepared])
        raise
    # Includes tables that killed attempts left behind. An attempt that is still running has lost its race to this one.
    drop_staging(session, [table for p in prepared for table in ddl.staging_tables(session, p.layout)])
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
            (p.layout.target.schema, p.layout.target.name),
        )
        for p, entry in zip(prepared, entries, strict=True)
    }
    return [done[increment.config.target] for increment in increments]


def _merge(session: Session, prepared: Sequence[Prepared], log_schema: str, allow_deletes: bool) -> list[LogEntry]:
    """Merge the increments in one transaction. It is repeated when rows that were not checked cannot be written."""
    try:
        with session.transaction():
            return [_transact(session, p, log_schema, allow_deletes) for p in prepared]
    except (replace.UncheckedRowsError, WarehouseError) as error:
        unchecked = [p for p in prepared if p.unchecked]
        if not unchecked or (isinstance(error, WarehouseError) and error.kind is not Kind.REFUSED):
            raise
        for p in unchecked:
            check_after_all(session, p)
    with session.transaction():
        return [_transact(session, p, log_schema, allow_deletes) for p in prepared]


def _transact(session: Session, p: Prepared, log_schema: str, allow_deletes: bool) -> LogEntry:
    layout, manifest = p.layout, p.manifest
    if p.unchecked:  # in the transaction, so that a refused first load leaves no table
        targets.make(session, p.increment.config, layout, manifest)
    session.about(QueryTag.of(p.increment.config, "merge", manifest.load_id))
    newest, before = sync_log.advance(session, layout, manifest, log_schema)
    sequence = manifest.expected_sequence + 1
    load = manifest.watermark_before.load if manifest.watermark_before else None
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
        load,
        p.unchecked,
    )
    last = None
    if manifest.disposition is not Disposition.REPLACE:
        last = _assert_as_it_was_left(p, newest, before)
    for name, text in manifest.fill.items():
        session.modify(merge.fill(layout, layout.names.of(name)), (text, *merging.written, text))
    written = _WRITE[manifest.disposition](merging)
    after = _count_after(merging, written, p.increment.as_found)
    if load and not manifest.watermark_after.load and not load.replaces:
        _refuse_doubled(merging)
    changed = written.inserted + written.updated if written.left is None else written.left
    inserted = min(written.inserted, changed)
    recorded_as = resume.as_if_not_edited(last, before, after) if p.increment.as_found and last else after
    entry = LogEntry(
        source_table=manifest.table,
        target=layout.target.key,
        run_sequence=sequence,
        load_id=manifest.load_id,
        applied_at=merging.now,
        strategy=p.increment.strategy,
        disposition=manifest.disposition.value,
        watermark=dataclasses.replace(manifest.watermark_after, left=left(session, p, recorded_as.sums)).to_json(),
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


def _refuse_doubled(merging: Merging) -> None:
    """Raise GuardError when rows of different chunks have the same key: their staging tables could not show it."""
    layout = merging.layout
    if layout.key and (doubled := merging.session.query(merge.doubled(layout))):
        raise doubled_keys(merging.config, merging.manifest, doubled)


def _assert_as_it_was_left(p: Prepared, entry: LogEntry | None, now: Count) -> LogEntry | None:
    """Check that the target is as the previous run left it, because an increment is only correct on top of that state.
    ``entry`` is the newest of the sync log. Returns the entry of the previous run; None when there is none. Raises
    TargetChangedError or RivalRunError."""
    target, manifest = p.layout.target, p.manifest
    if manifest.expected_sequence == 0 and not now.present:
        return None
    if entry is None or (entry.run_sequence, entry.load_id) != (manifest.expected_sequence, manifest.expected_load_id):
        changed = f"it has {now.present} rows, but the sync log has no entry for run {manifest.expected_sequence}"
    elif p.increment.as_found:
        changed = resume.columns_changed(entry, p.found)
    else:
        changed = resume.difference(entry, p.found, now)
        compared = p.increment.complete and manifest.disposition is Disposition.UPSERT
        if not (changed or compared):
            changed = resume.edited(entry, now)
    if changed:
        raise TargetChangedError(
            f"{target}: {changed}",
            where=manifest.table,
            hint=modified_outside(manifest),
        )
    assert entry
    known = Watermark.from_json(entry.watermark)
    evolve.refuse_moved(p.layout, p.existing, known.left)
    if manifest.watermark_before not in (None, dataclasses.replace(known, left=None)):
        raise RivalRunError(
            f"the hint in S3 and the sync log have different watermarks for run {manifest.expected_sequence}",
            where=str(target),
            hint="this run applied nothing, and no row is lost: run again",
        )
    return entry


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
