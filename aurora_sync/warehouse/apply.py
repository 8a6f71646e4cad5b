"""Manifests into their targets: staging tables, assertions, and one transaction that merges and remembers.

Safe to kill anywhere and to run again: before the COMMIT nothing of the target or the sync log has changed,
after it the run sequence has moved, and the same manifest applied again finds its own load id and is done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

from aurora_sync.config.tables import TableConfig, fold
from aurora_sync.errors import DefectError, GuardError, Kind, RivalRunError, TargetChangedError, WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.certificate import Finding
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Adjusted, Applied, find_rows
from aurora_sync.model.watermark import Left, Watermark
from aurora_sync.warehouse import changes, ddl, evolve, history, merge, sums, sync_log
from aurora_sync.warehouse.base import Objects, Session
from aurora_sync.warehouse.ddl import Layout, TableName, TargetColumn, identifier
from aurora_sync.warehouse.sync_log import Count, LogEntry

_log = foreign_text.logger(__name__)

# Of the values of a column that do not fit its type, this many are shown.
EXAMPLES = 3

# Stages, behind the manifest's files, what else belongs to the increment, and returns the manifest with it: what a
# comparison found to differ (engine/reconcile.py), or files of others (files.py).
Complete = Callable[[Session, Layout], Manifest]


@dataclass(frozen=True)
class StagedIncrement:
    """One table's part of what is applied at once."""

    config: TableConfig
    manifest: Manifest
    strategy: str
    complete: Complete | None = None
    as_found: bool = False  # whatever rows the target holds: it is going to be compared


@dataclass
class _Prepared:
    """An increment that is staged, and whose target can take it."""

    increment: StagedIncrement
    layout: Layout
    manifest: Manifest
    existing: dict[str, str]  # columns of the target; none: there is no target yet
    found: dict[str, str]  # the same, as they were before this run made them fit
    adjusted: tuple[Adjusted, ...] = ()
    changes: tuple[Finding, ...] = ()


def apply(
    session: Session,
    config: TableConfig,
    manifest: Manifest,
    objects: Objects,
    *,
    strategy: str,
    log_schema: str = sync_log.SCHEMA,
    allow_deletes: bool = False,
    complete: Complete | None = None,
    as_found: bool = False,
) -> Applied:
    """Make the manifest's rows part of the target, durably, exactly once; and what ``complete`` adds to them.

    Raises RivalRunError when another run was applied since ``manifest.expected_sequence``, GuardError when
    rows would be lost or removed (the target is then as before), ConfigError and WarehouseError otherwise.
    ``allow_deletes`` switches off the delete guard, not the other assertions. With ``as_found`` the rows of the target
    need not be as they were left; the next run finds that as this one did.
    """
    increment = StagedIncrement(config, manifest, strategy, complete, as_found)
    (applied,) = apply_all(session, [increment], objects, log_schema=log_schema, allow_deletes=allow_deletes)
    return applied


def apply_all(
    session: Session,
    increments: Sequence[StagedIncrement],
    objects: Objects,
    *,
    log_schema: str = sync_log.SCHEMA,
    allow_deletes: bool = False,
) -> list[Applied]:
    """The same for several tables, all or none of them: in one transaction."""
    # Every run locks fences in this order, so that two never wait for each other.
    ordered = sorted(increments, key=lambda increment: increment.config.target)
    started = monotonic()
    prepared: list[_Prepared] = []
    try:
        try:
            for increment in ordered:
                prepared.append(_staging(session, increment, log_schema))
                _prepare(session, prepared[-1], objects, log_schema)
            merging = monotonic()
            with session.transaction():
                entries = [_transact(session, p, log_schema, allow_deletes) for p in prepared]
        except WarehouseError as error:
            merging = monotonic()
            if len(prepared) < len(ordered):
                raise
            entries = [_what_became_of_it(session, p.layout, p.manifest, log_schema, error) for p in prepared]
    except BaseException:
        _drop_staging(session, [p.layout.staging for p in prepared])
        raise
    # Attempts that were killed left theirs; one that still runs has lost its race to this one.
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
        )
        for p, entry in zip(prepared, entries, strict=True)
    }
    return [done[increment.config.target] for increment in increments]


def _staging(session: Session, increment: StagedIncrement, log_schema: str) -> _Prepared:
    """Where the increment's rows will be staged."""
    config, manifest = increment.config, increment.manifest
    target = ddl.target_name(config)
    existing = sync_log.prepare(session, target, log_schema)
    if manifest.taken:
        sync_log.prepare_taken(session, log_schema)
    to_rename = evolve.renames(existing, manifest)
    named = {to_rename.get(name, name): type_ for name, type_ in existing.items()}
    layout = ddl.layout(config, manifest, log_schema, named)
    return _Prepared(increment, layout, manifest, existing, dict(existing))


def _prepare(session: Session, p: _Prepared, objects: Objects, log_schema: str) -> None:
    """Stage the rows and make the target ready for them: all that is DDL, which in Snowflake commits."""
    session.query(ddl.create_staging(p.layout))
    loaded = session.load(p.layout.staging.sql, p.manifest, objects)
    p.layout, p.adjusted = _assert_staged(session, p, loaded)
    if p.existing:
        p.layout, p.changes = evolve.adapt_target(session, p.layout, p.existing, p.manifest)
        if evolve.left_behind(p.existing, p.manifest):
            p.manifest = replace(p.manifest, evolution=replace(p.manifest.evolution, rekeyed=True))
        if p.manifest.expected_sequence == 0:
            _refuse_foreign(session, p.layout, p.manifest, log_schema)
    if p.increment.config.history:
        history.prepare(session, p.layout, p.manifest, objects)
    if p.increment.complete:
        staged, p.manifest = p.manifest.rows, p.increment.complete(session, p.layout)
        loaded += p.manifest.rows - staged
        p.layout, p.adjusted = _assert_staged(session, p, loaded)
        if p.existing:
            p.layout, more = evolve.adapt_target(session, p.layout, p.existing, p.manifest)
            p.changes += more
    if not p.existing:  # only now: a first load that is refused for its values leaves no table of their types
        ddl.make_target(session, p.layout, p.manifest.table)


def _transact(session: Session, p: _Prepared, log_schema: str, allow_deletes: bool) -> LogEntry:
    increment, layout, manifest, config = p.increment, p.layout, p.manifest, p.increment.config
    sequence = sync_log.advance(
        session,
        layout.target,
        manifest.expected_sequence,
        manifest.expected_load_id,
        manifest.load_id,
        log_schema,
    )
    now = datetime.now(UTC)
    written = (sequence, sync_log.as_text(now))
    before = _count(session, layout)
    last = None
    if manifest.disposition is not Disposition.REPLACE:
        last = _assert_as_it_was_left(session, p, log_schema, before)
    for name, text in manifest.fill.items():
        session.modify(merge.fill(layout, fold(name)), (text, *written, text))
    deleted = recorded = 0
    streamed = manifest.disposition is Disposition.CHANGES
    if config.history and not streamed:
        recorded = _record_missing(session, layout, manifest, written)
    if manifest.repaired:
        deleted = session.modify(
            merge.delete_unstaged(layout, sums.within(sums.number(layout), manifest.repaired)),
            written if layout.soft else (),
        )
        if not allow_deletes:
            _guard_deletes(config, layout, manifest, deleted, before.present)
    if manifest.disposition is Disposition.REPLACE:
        rekeyed = manifest.evolution.rekeyed  # no row is found by the new key: all give way, and the marked ones stay
        if rekeyed:
            deleted = session.modify(merge.delete_present(layout))
        else:
            if not layout.key:
                session.modify(merge.renumber(layout))
            deleted = session.modify(merge.delete_unstaged(layout), written if layout.soft else ())
        if not allow_deletes:
            # Without a key, or by another, a changed row is a deleted and an inserted one: only the difference is a
            # loss. Rows that were marked as deleted before are none.
            counted = layout.key and not rekeyed
            left = _count(session, layout).present if counted else manifest.rows
            _guard_deletes(config, layout, manifest, before.present - left, before.present)
    if manifest.disposition is Disposition.APPEND:
        changed = session.modify(merge.append(layout), written)
    elif streamed:
        changed, deleted = _apply_changes(session, layout, manifest, written)
    else:
        changed = session.modify(merge.merge(layout), written)
    if config.history and (manifest.history or not streamed):
        appended = history.append_changes(layout) if streamed else history.append_scanned(layout, manifest)
        recorded += session.modify(appended, written)
    after = _count(session, layout)
    inserted = after.rows - before.rows + (0 if layout.soft and not manifest.evolution.rekeyed else deleted)
    if len(manifest.parts) > 1:  # a later part may have written or deleted again what an earlier one wrote
        changed = int(session.query(merge.written_by(layout, sequence))[0][0])
        inserted = min(inserted, changed)
    whole = manifest.rows if manifest.disposition is Disposition.REPLACE else manifest.source_rows
    exact = manifest.disposition is Disposition.REPLACE or manifest.repaired is not None
    if exact and after.present != whole and layout.key and session.modify(merge.delete_doubled(layout)):
        session.modify(merge.merge(layout), written)
        after = _count(session, layout)
    if exact and after.present != whole:
        raise DefectError(
            f"after reading {whole} rows of the source {layout.target} holds {after.present}",
            where=manifest.table,
            hint="rolled back; if its merge key was changed, drop the target and sync again",
        )
    recorded_as = sync_log.as_if_not_edited(last, before, after) if increment.as_found and last else after
    entry = LogEntry(
        source_table=manifest.table,
        target=layout.target.sql,
        run_sequence=sequence,
        load_id=manifest.load_id,
        applied_at=now,
        strategy=increment.strategy,
        disposition=manifest.disposition.value,
        watermark=replace(manifest.watermark_after, left=_left(session, p, recorded_as.sums)).to_json(),
        staged_rows=manifest.rows,
        inserted=inserted,
        updated=changed - inserted,
        deleted=deleted,
        target_rows=recorded_as.present,
        source_rows=manifest.source_rows,
        manifest_prefix=manifest.prefix,
        snapshot_xmin=manifest.watermark_after.snapshot.xmin,
        snapshot_xmax=manifest.watermark_after.snapshot.xmax,
        certificate=manifest.certificate.to_json(),
    )
    sync_log.record(session, entry, log_schema)
    sync_log.record_taken(session, layout.target, sequence, manifest.taken, log_schema)
    return replace(entry, target_rows=after.present)


def _record_missing(session: Session, layout: Layout, manifest: Manifest, written: tuple[int, str]) -> int:
    """In the history, before they are deleted: the rows that a scan did not find."""
    if manifest.disposition is Disposition.REPLACE:
        gone = "TRUE" if manifest.evolution.rekeyed else merge.unstaged(layout)
    elif manifest.repaired:
        gone = merge.unstaged(layout, sums.within(sums.number(layout), manifest.repaired))
    else:
        return 0
    present = f"{merge.PRESENT} AND " if layout.marks else ""
    return session.modify(history.append_missing(layout, manifest, present + gone), written)


def _apply_changes(session: Session, layout: Layout, manifest: Manifest, written: tuple[int, str]) -> tuple[int, int]:
    """Part by part. Returns how many rows were written, and how many deleted. A stream names what was deleted, so no
    guard stands before it."""
    ((partial,),) = session.query(changes.count_partial(layout))
    if partial != sum(part.partial for part in manifest.parts):
        named = sum(part.partial for part in manifest.parts)
        raise DefectError(
            f"{manifest.rows} changes are staged, {partial} of them partial, and the manifest names {named}",
            where=manifest.table,
        )
    changed = deleted = 0
    marking = written if layout.soft else ()
    for number, part in enumerate(manifest.parts):
        if part.truncated:
            deleted += session.modify(
                merge.mark_present(layout) if layout.soft else merge.delete_present(layout), marking
            )
        if part.partial and (orphans := session.query(changes.count_orphans(layout, number))) != [(0,)]:
            raise TargetChangedError(
                f"{orphans[0][0]} updated rows, which the stream does not repeat in full, are not in {layout.target}",
                where=manifest.table,
                hint="it was edited by hand, or restored",
            )
        changed += session.modify(changes.upsert(layout, number, partial=part.partial > 0), written)
        deleted += session.modify(changes.delete(layout, number), marking)
    return changed, deleted


def _left(session: Session, p: _Prepared, sums_of_rows: str) -> Left:
    """What this run leaves, for the next one to find."""
    written = {name: p.existing.get(name) or evolve.as_reported(type_) for name, type_ in p.layout.types.items()}
    columns = p.found or p.layout.types  # a target that this run made
    if p.found and not (p.existing == p.found and written.keys() <= p.found.keys()):
        columns = ddl.existing_columns(session, p.layout.target)
    return Left(written, sums_of_rows, [name for name in columns if name in written])


def _assert_as_it_was_left(session: Session, p: _Prepared, log_schema: str, now: Count) -> LogEntry | None:
    """An increment only makes sense on top of what the run before it left, and from where the log says that it is.
    Returns what the log says of that run."""
    target, manifest = p.layout.target, p.manifest
    if manifest.expected_sequence == 0 and not now.present:
        return None
    entry = sync_log.find(session, target, manifest.expected_sequence, log_schema)
    if entry is None or entry.load_id != manifest.expected_load_id:
        changed = f"the sync log has nothing of run {manifest.expected_sequence}, and {target} has {now.present} rows"
    elif p.increment.as_found:
        changed = sync_log.columns_changed(entry, p.found)
    else:
        changed = sync_log.difference(entry, p.found, now)
        compared = p.increment.complete and manifest.disposition is Disposition.UPSERT  # by reconcile.py
        if not (changed or compared):
            changed = sync_log.edited(entry, now)
    if changed:
        raise TargetChangedError(
            f"{target}: {changed}",
            where=manifest.table,
            hint="it was dropped, restored or edited by hand; a full read puts it right",
        )
    assert entry
    known = replace(Watermark.from_json(entry.watermark), left=None)
    if manifest.watermark_before not in (None, known):
        raise RivalRunError(
            f"the hint of run {manifest.expected_sequence} has another watermark than the sync log",
            where=str(target),
            hint="nothing of this run was applied and nothing is lost: run again",
        )
    return entry


def _count(session: Session, layout: Layout) -> Count:
    return sync_log.count(session, layout.target, marks=layout.marks)


def _refuse_foreign(session: Session, layout: Layout, manifest: Manifest, log_schema: str) -> None:
    """A table that looks like ours but of which the log knows nothing is ours only while it is empty: an
    attempt that never committed made it."""
    if _count(session, layout).rows and sync_log.find(session, layout.target, 1, log_schema) is None:
        raise WarehouseError(
            f"{layout.target} has rows, but the sync log in {log_schema} knows no run that wrote them",
            where=manifest.table,
            hint="drop or rename the target to load it in full, or name the schema of its sync log",
        )


def _assert_staged(session: Session, p: _Prepared, loaded: int) -> tuple[Layout, tuple[Adjusted, ...]]:
    """What was staged is what was exported, and has a key. Returns the layout whose types hold all of it, and the
    values that will be others in the target."""
    layout, manifest, config = p.layout, p.manifest, p.increment.config
    if not layout.key and manifest.disposition in (Disposition.UPSERT, Disposition.CHANGES):
        raise DefectError(f"{manifest.disposition.name} needs a merge key", where=manifest.table)
    ((rows, *counts),) = session.query(merge.count_staged(layout))
    if not rows == loaded == manifest.rows:
        raise WarehouseError(
            f"the manifest names {manifest.rows} rows, {loaded} were loaded and {rows} are staged",
            where=f"{manifest.table}, {manifest.prefix}",
            hint="the staged objects did not come as they were written, and nothing was applied; run again",
            kind=Kind.TRANSIENT,
        )
    if manifest.disposition is Disposition.REPLACE and manifest.source_rows not in (None, rows):
        raise GuardError(
            f"the source counted {manifest.source_rows} rows in the snapshot whose export has {rows}",
            where=manifest.table,
            hint="the target is untouched; row-level security or an export cut short would do this",
        )
    if empty := [f"{n} rows have no value in {c.name}" for c, n in zip(layout.key, counts, strict=False) if n]:
        raise GuardError(
            f"{' and '.join(empty)} of the merge key, and would be lost",
            where=manifest.table,
            hint="choose a primary_key whose columns are never NULL",
        )
    typed = [column for column in layout.columns if column.misfit]
    misfits = {
        column: int(number)
        for column, number in zip(typed, counts[len(layout.key) :], strict=True)
        if number or _misfits_older_rows(session, column, manifest)
    }
    examples = {column: _examples(session, p, column) for column in misfits}
    _refuse_misfits(misfits, examples, manifest)
    adjusted = tuple(Adjusted(c.source.name, c.rule.policy, number, *examples[c]) for c, number in misfits.items())
    wide = [column for column in misfits if column.rule.policy == "exact"]
    ddl.refuse_json((column.source for column in wide), manifest.table)
    layout = layout.widened([column.name for column in wide])
    if layout.key and (duplicates := session.query(merge.duplicate_keys(layout))):
        named = ", ".join(identifier(name) for name in manifest.key)
        find = f"SELECT {named}, count(*) FROM {config.sql} GROUP BY {named} HAVING count(*) > 1"  # noqa: S608
        raise GuardError(
            f"the merge key ({', '.join(manifest.key)}) is not unique, rows would be lost",
            where=manifest.table,
            hint=f"choose a primary_key that tells all rows apart; to find those that it does not: {find}",
            values="; ".join(f"{', '.join(map(str, key))} ({count} rows)" for *key, count in duplicates),
        )
    return layout, tuple(found for found in adjusted if found.policy != "exact")


def _misfits_older_rows(session: Session, column: TargetColumn, manifest: Manifest) -> bool:
    """Whether what rows that are not staged get in a new column does not fit its type."""
    text = manifest.fill.get(column.source.name)
    return text is not None and session.query(merge.misfits(column), (text,)) != [(0,)]


def _examples(session: Session, p: _Prepared, column: TargetColumn) -> tuple[tuple[str, ...], str]:
    """Some values that do not fit, and a statement that finds their rows."""
    rows = session.query(merge.example_misfits(p.layout, column, EXAMPLES))
    examples = tuple(f"{value!r}{' of ' + ', '.join(map(str, key)) if key else ''}" for _, *key, value in rows)
    return examples, find_rows(p.increment.config.sql, sorted({int(xmin or 0) for xmin, *_ in rows} - {0}))


def _refuse_misfits(
    misfits: Mapping[TargetColumn, int],
    examples: Mapping[TargetColumn, tuple[tuple[str, ...], str]],
    manifest: Manifest,
) -> None:
    """Raise GuardError where the policy of a column is that the run fails."""
    found, values, finds = [], [], []
    failing = [column for column in misfits if column.rule.policy == "fail"]
    for column in failing:
        name, number, (some, find) = column.source.name, misfits[column], examples[column]
        what = f"{number} values of column {name}" if number else f"what older rows hold in the new column {name}"
        found.append(f"{what}: {column.rule.target} cannot hold {'them' if number else 'it'}")
        values.append(", ".join(some) or repr(manifest.fill[name]))
        finds += [find] if find else []
    if found:
        exact = ", ".join(f"{column.source.name}: exact" for column in failing)
        raise GuardError(
            "; ".join(found),
            where=manifest.table,
            hint=f"in tables.yaml choose another policy, such as column_types: {{{exact}}}"
            + (f"; to find the rows: {'; '.join(dict.fromkeys(finds))}" if finds else ""),
            values="; ".join(values),
        )


def _guard_deletes(config: TableConfig, layout: Layout, manifest: Manifest, removed: int, present: int) -> None:
    allowed = config.delete_guard.allowed(present)
    if present and not (manifest.source_rows if manifest.repaired else manifest.rows):
        raise GuardError(
            f"the source is empty and would empty {layout.target}, which has {present} rows",
            where=manifest.table,
            hint=f"rolled back; if the source is empty on purpose, {_allowing(manifest)}",
        )
    if removed > allowed:
        raise GuardError(
            f"{removed} of the {present} rows of {layout.target} would be removed, {allowed} are allowed",
            where=manifest.table,
            hint=f"rolled back; if they were deleted on purpose, {_allowing(manifest)}, or raise delete_guard"
            " (max_rows, max_share) in tables.yaml",
        )


def _allowing(manifest: Manifest) -> str:
    """How a person lets one run delete as much as it finds."""
    command = "reconcile" if manifest.repaired else "sync"
    table = shlex.quote(manifest.table)
    return f"run `aurora-sync {command} --allow-deletes {table}` once (in Dagster: allow_deletes in the launchpad)"


def _what_became_of_it(
    session: Session, layout: Layout, manifest: Manifest, log_schema: str, error: WarehouseError
) -> LogEntry:
    """The transaction ended in an error: the log says whether it, or a rival, was committed all the same."""
    try:
        entry = sync_log.find(session, layout.target, manifest.expected_sequence + 1, log_schema)
    except WarehouseError as unread:
        error.add_note(f"whether it was committed could not be read either: {unread}")
        raise error from unread
    if entry is None or (isinstance(error, RivalRunError) and entry.load_id != manifest.load_id):
        raise error
    if entry.load_id != manifest.load_id:
        raise RivalRunError(
            f"run sequence {entry.run_sequence} was applied by {entry.load_id} meanwhile", where=str(layout.target)
        ) from error
    return entry


def _drop_staging(session: Session, tables: list[TableName]) -> None:
    """Never fails: the increment is decided, and the next one that is applied drops what was left behind."""
    for table in tables:
        try:
            session.query(ddl.drop_table(table))
        except WarehouseError as error:
            _log.warning("staging table %s is left behind: %s", table, error)
