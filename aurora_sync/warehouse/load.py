"""The transactions of a load in chunks: the begin, and each chunk.

The sync log has an entry for each. Its watermark lists the chunks that are in the target, so the log is the record of
the load: a chunk is in the target if and only if the newest entry says so. Chunks may be applied in any order, by
several processes at once.

The rows of a chunk are appended. All rows that chunks read were visible in one snapshot (engine/load.py), so their keys
differ. Rows are merged by key where that is not certain.
"""

# ruff: noqa: S608 - every name went through identifier()

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from aurora_sync.errors import RivalRunError, WarehouseError
from aurora_sync.model import tracing
from aurora_sync.model.certificate import Certificate, Level
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Applied
from aurora_sync.model.watermark import ABORTED, Watermark
from aurora_sync.warehouse import merge, resume, sync_log
from aurora_sync.warehouse.base import Objects, Session
from aurora_sync.warehouse.ddl import TableName
from aurora_sync.warehouse.prepare import Prepared, StagedIncrement, drop_staging, left, prepare, staging
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.sync_log import LogEntry

# The entry before may have the certificate of a pass: that of a target that lacks no row.
_ABORTED = Certificate(Level.UNCERTIFIED, (), "a load in chunks was aborted: the next run reads the whole table")
# A transaction is tried again when another chunk was committed while it waited: its rows are staged already.
TRIES = 5


class _LoadedBeforeError(Exception):
    """Ends the transaction of a chunk that is in the target already."""


def begin(session: Session, increment: StagedIncrement, objects: Objects, log_schema: str, *, empty: bool) -> int:
    """Record the begin of a load, whose manifest has no rows, and return the run sequence. ``empty``: remove the rows
    of the target, which an unfinished load left. Chunks are merged into other rows, unless these have another key:
    they are removed as well. Raises RivalRunError when another run was applied meanwhile."""
    p = staging(session, increment, log_schema)
    try:
        prepare(session, p, objects, log_schema)
        with session.transaction():
            sync_log.advance(session, p.layout, p.manifest, log_schema)
            if empty:
                session.modify(f"DELETE FROM {p.layout.target.sql}")
            elif p.manifest.evolution.rekeyed:  # rows by the former key cannot be merged by the new one
                session.modify(merge.delete_present(p.layout))
            older = sync_log.count(session, p.layout.target, marks=p.layout.marks)
            sequence = p.manifest.expected_sequence + 1
            watermark = _over(p.manifest.watermark_after, older.rows)
            entry = _entry(session, p, sequence, watermark, older.present)
            sync_log.record(session, entry, p.layout.target, log_schema)
    finally:
        drop_staging(session, [p.layout.staging])
    return sequence


def _over(watermark: Watermark, older: int) -> Watermark:
    """Return the watermark of a load over a number of ``older`` rows, which the chunks are merged into."""
    assert watermark.load
    return watermark.loading(dataclasses.replace(watermark.load, replaces=older > 0, merges=older > 0))


def apply_chunk(
    session: Session, chunk: StagedIncrement, objects: Objects, log_schema: str, on_phase: Callable[[str], object]
) -> Applied | None:
    """Apply one chunk, exactly once. Returns None when the chunk is in the target already.

    Raises RivalRunError when the load that the chunk belongs to has ended or began again.
    """
    started = monotonic()
    session.about(QueryTag.of(chunk.config, "load", chunk.manifest.load_id))
    on_phase("load")
    p = staging(session, chunk, log_schema)
    try:
        with tracing.span("load"):
            prepare(session, p, objects, log_schema)
        loaded = monotonic()
        on_phase("merge")
        with tracing.span("merge"):
            entry = _committed(session, p, log_schema)
    finally:
        drop_staging(session, [p.layout.staging])
    if entry is None:
        return None
    seconds = {"load": loaded - started, "merge": monotonic() - loaded}
    counts = entry.inserted, entry.updated, entry.deleted, entry.target_rows
    queries = session.queries(p.manifest.load_id)
    target = p.layout.target.schema, p.layout.target.name
    return Applied(entry.run_sequence, *counts, seconds, p.adjusted, p.changes, queries, target)


def abort(session: Session, target: TableName, log_schema: str, load_id: str, *, exists: bool) -> None:
    """Record that the load which is open ended before its last chunk. The rows of the load leave the target if it
    ``exists``, unless it had rows before. Raises RivalRunError when no load is open any more."""
    with session.transaction():
        newest = sync_log.advance_any(session, target, load_id, log_schema)
        watermark = Watermark.from_json(newest.watermark)
        if watermark.load is None:
            raise RivalRunError("the load has ended", where=newest.source_table)
        kept = newest.target_rows if watermark.load.replaces else 0
        if exists and not watermark.load.replaces:
            session.modify(f"DELETE FROM {target.sql}")
        entry = dataclasses.replace(
            newest,
            run_sequence=newest.run_sequence + 1,
            load_id=load_id,
            applied_at=datetime.now(UTC),
            watermark=dataclasses.replace(watermark, load=None, version=1, covers=ABORTED).to_json(),
            staged_rows=0,
            inserted=0,
            updated=0,
            deleted=newest.target_rows - kept,
            target_rows=kept,
            certificate=_ABORTED.to_json(),
        )
        sync_log.record(session, entry, target, log_schema)


def _committed(session: Session, p: Prepared, log_schema: str) -> LogEntry | None:
    for attempt in range(1, TRIES + 1):
        try:
            with session.transaction():
                return _transact(session, p, log_schema)
        except _LoadedBeforeError:
            return None
        except WarehouseError as error:
            newest = _newest(session, p, log_schema, error)
            if newest.load_id == p.manifest.load_id:
                return newest  # the COMMIT succeeded, but its answer was lost
            if not error.kind.retry or attempt == TRIES:
                raise
    raise AssertionError("unreachable")


def _transact(session: Session, p: Prepared, log_schema: str) -> LogEntry:
    manifest, chunk, wanted = p.manifest, p.manifest.chunk, p.manifest.watermark_after.load
    assert chunk  # load.export_chunk
    session.about(QueryTag.of(p.increment.config, "merge", manifest.load_id))
    newest = sync_log.advance_any(session, p.layout.target, manifest.load_id, log_schema)
    before = Watermark.from_json(newest.watermark)
    if before.load is None or wanted is None or before.load.id != wanted.id:
        raise RivalRunError(
            f"the load that chunk {chunk.number} belongs to has ended",
            where=manifest.table,
            hint="this chunk was not applied, and no row is lost: run again",
        )
    if before.load.has(chunk.number):
        raise _LoadedBeforeError
    if changed := resume.columns_changed(newest, p.found):
        raise RivalRunError(
            f"the columns of the target changed while chunk {chunk.number} was staged: {changed}",
            where=manifest.table,
            hint="this chunk was not applied, and no row is lost: run again",
        )
    sequence = newest.run_sequence + 1
    merges = chunk.merges or before.load.merges
    parameters = (sequence, sync_log.as_text(datetime.now(UTC)))
    inserted = updated = revived = 0
    if merges and p.layout.key:
        within = " AND ".join(bound.on("t") for bound in p.usable_bounds())
        if p.layout.marks:  # rows that were marked as deleted are present again
            ((revived,),) = session.query(merge.count_matched(p.layout, merge.MARKED))
        found = session.merge(merge.merge(p.layout, within=within), parameters)
        inserted, updated = found.inserted, found.updated
    elif manifest.rows:
        statement = merge.insert(p.layout, ordered=session.dialect.prunes) if p.layout.key else merge.append(p.layout)
        inserted = session.modify(statement, parameters)
    adjusted = tuple((each.column, each.policy, each.values) for each in p.adjusted)
    chunk = dataclasses.replace(chunk, merges=merges, adjusted=chunk.adjusted + adjusted)
    load = before.load.after(chunk, rows=manifest.rows, size=manifest.bytes, inserted=inserted, updated=updated)
    watermark = dataclasses.replace(before.loading(load), canaries=manifest.watermark_after.canaries)
    entry = _entry(session, p, sequence, watermark, newest.target_rows + inserted + revived, inserted, updated)
    sync_log.record(session, entry, p.layout.target, log_schema)
    return entry


def _newest(session: Session, p: Prepared, log_schema: str, error: WarehouseError) -> LogEntry:
    try:
        newest = sync_log.newest_entry(session, p.layout.target, log_schema)
    except WarehouseError as unread:
        error.add_note(f"the sync log, which says whether the chunk was committed, could not be read: {unread}")
        raise error from unread
    if newest is None:
        raise error
    return newest


def _entry(
    session: Session, p: Prepared, sequence: int, watermark: Watermark, rows: int, inserted: int = 0, updated: int = 0
) -> LogEntry:
    manifest = p.manifest
    return LogEntry(
        source_table=manifest.table,
        target=p.layout.target.key,
        run_sequence=sequence,
        load_id=manifest.load_id,
        applied_at=datetime.now(UTC),
        strategy=p.increment.strategy,
        disposition=Disposition.APPEND.value,
        watermark=dataclasses.replace(watermark, left=left(session, p, resume.NOT_SUMMED)).to_json(),
        staged_rows=manifest.rows,
        inserted=inserted,
        updated=updated,
        deleted=0,
        target_rows=rows,
        source_rows=None,
        manifest_prefix=manifest.prefix,
        snapshot_xmin=watermark.snapshot.xmin,
        snapshot_xmax=watermark.snapshot.xmax,
        certificate=manifest.certificate.to_json(),
    )
