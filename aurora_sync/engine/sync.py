"""Read this file first: one increment of one table, top to bottom.

::

    state (hint or sync log) ─► observe: fence, then snapshot ─► judge the watermark ─► plan
        ─► COPY to S3, manifest last ─► one warehouse transaction {merge, deletes, sync log row} ─► hint

The whole of a large table is read in chunks before that (load.py): this run is then the last one of the load.

A run that reconciles keeps its snapshot open until the increment is staged. It then compares, and applies the
differences in the same transaction (reconcile.py).

The order proves that no row is lost. The state is read *before* the snapshot. A rival run that commits in between is
therefore noticed by the compare-and-set on the run sequence, and its rows are never overwritten with older ones. The
watermark advances only inside the transaction that merges its rows. If a run is killed at any point, the next run
starts from the last committed watermark and ends at the same target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import load
from aurora_sync.engine.attempts import Start, repeated
from aurora_sync.engine.finish import Outcome, finish
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, source_count
from aurora_sync.engine.reconcile import Reconciliation
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import assert_comparable, compare_contents
from aurora_sync.errors import values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.certificate import Action
from aurora_sync.model.export import Exported
from aurora_sync.model.manifest import Disposition, Manifest, Part, TakenFile
from aurora_sync.model.receipt import Adjusted, Applied, QueryRef, Receipt
from aurora_sync.source import canary, outbox
from aurora_sync.source.copy_out import Progress
from aurora_sync.strategies import identity
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)


def run(
    config: TableConfig,
    places: Places,
    *,
    allow_deletes: bool = False,
    full: bool = False,
    reconcile: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    taken: tuple[TakenFile, ...] = (),
) -> Receipt:
    """Bring one table's target up to a snapshot of its source that is taken after this call began, and return the
    receipt.

    ``full`` reads the whole table, whatever the watermark is; ``reconcile`` compares the target with the source and
    repairs it; ``allow_deletes`` disables the delete guard; ``taken`` are external files whose changes the snapshot
    contains. Raises ConfigError before any data moves when table and configuration do not fit, GuardError when the run
    would remove too many rows, RivalRunError when another run committed first. After an error, the target and its
    watermark are unchanged.
    """
    options = RunOptions(full, reconcile, allow_deletes, taken=taken)
    with values_shown(config.show_values):
        return repeated(partial(increment, config, places, on_progress), options, config.qualified_name)


def verify(config: TableConfig, places: Places, *, on_progress: Callable[[Progress], None] | None = None) -> Receipt:
    """Apply the increment of a run and nothing else, then compare source and target by content in its snapshot.

    Raises NotComparedError when a run would scan, reconcile or read the whole table instead.
    """
    return increment(config, places, on_progress, Start(RunOptions(verify=True)))


def increment(
    config: TableConfig, places: Places, on_progress: Callable[[Progress], None] | None, start: Start
) -> Receipt:
    options, trust_hint, paused = start.options_of(config.qualified_name), start.trust_hint, ""
    begun, watch = 0, Stopwatch()
    while True:
        with looking(config, places, options, trust_hint=trust_hint, watch=watch) as found:
            # A target may have its former size after a rival run.
            start.may_be_stale = found.hinted is not None or found.state.size is not None
            if bounds := load.chunk_bounds(found, options):
                begun += 1
                load.assert_ends(found, begun)
                load.begin(found, places, bounds)
            elif load.is_unfinished(found):
                if paused:
                    return finish(found, places, load.paused(found, paused))
            elif not options.catch_up and load.pass_is_due(found):
                options = dataclasses.replace(options, catch_up=True)
                continue
            else:
                receipt = _one(found, places, options, on_progress)
                if not options.catch_up:
                    return receipt
                options, trust_hint = dataclasses.replace(options, catch_up=False), False
                continue
        # From here on, the state in the sync log says what is left to read.
        options, trust_hint = dataclasses.replace(options, full=False, because=""), False
        paused = load.load_chunks(config, places, on_progress)


def _one(found: Look, places: Places, options: RunOptions, on_progress: Callable[[Progress], None] | None) -> Receipt:
    """Export and apply one increment."""
    config, plan, verification = found.config, found.plan, None
    compared: list[QueryRef] = []
    if options.verify:
        assert_comparable(config, plan)
    manifest, shortened, idle = export(found, places, options, on_progress)
    reconciliation = Reconciliation(config, places.stage, found.reading, plan, manifest) if plan.reconcile else None
    if not reconciliation:
        found.close_snapshot()
    uri = None if idle or reconciliation else places.stage.commit(manifest)
    begin = _beginning(on_progress, manifest)
    applied = None if idle else _apply(found, places, manifest, options, reconciliation, begin)
    if reconciliation:
        manifest, uri = reconciliation.manifest, reconciliation.uri
    if options.verify:
        begin("compare")
        left = applied.run_sequence if applied else found.state.run_sequence
        verification = compare_contents(config, places, found.reading, plan, manifest, left, compared)
    outcome = Outcome(
        manifest=manifest,
        applied=applied,
        uri=uri,
        watch=found.watch,
        warnings=plan.warnings + (reconciliation.warnings if reconciliation else ()),
        adjusted=shortened,
        repair=reconciliation.repair if reconciliation else None,
        verification=verification,
        compared=tuple(compared),
    )
    return finish(found, places, outcome)


def export(
    found: Look, places: Places, options: RunOptions, on_progress: Callable[[Progress], None] | None
) -> tuple[Manifest, tuple[Adjusted, ...], bool]:
    """Copy the planned rows to the stage. Returns the manifest, which is not committed yet, the values that were
    shortened on the way, and whether there is nothing to apply."""
    plan, table = found.plan, found.config.qualified_name
    for warning in (text for text in plan.warnings if text not in plan.reasons):
        logger.warning("%s: %s", table, warning)
    with found.watch.phase("export"):
        _beginning(on_progress)("export")
        return _export(found, places, options, on_progress)


def _export(
    found: Look, places: Places, options: RunOptions, on_progress: Callable[[Progress], None] | None
) -> tuple[Manifest, tuple[Adjusted, ...], bool]:
    plan, reading = found.plan, found.reading
    read, exported = plan.read, Exported()
    statement = reading.statement(plan.columns, read.where, outbox=read.outbox, again=read.again)
    with places.stage.attempt(found.config.qualified_name, found.load_id) as attempt:
        if not _applies_nothing(plan, options):
            exported = reading.export(statement, attempt, on_progress)
        # The last rows are compressed and uploaded during the queries.
        idle = _idle(found, exported.rows, options)
        count = None if idle or plan.reconcile else source_count(found.config, found.state, reading, plan)
        shortened = reading.long_values(plan.columns, plan.key, read.where, longest_row=exported.longest)
        ending = outbox.live_row_ending(read.outbox) if read.outbox else b""
        rows = reading.newest(exported, statement, plan.at.snapshot)
        newest = canary.pick(rows, plan.columns, plan.key, plan.at.snapshot, identity.CANARIES, ending=ending)
    manifest = found.manifest(
        newest,
        prefix=attempt.prefix,
        files=attempt.files,
        source_rows=count,
        evolution=plan.evolution,
        fill={column.name: column.missing for column in plan.verdict.backfill},
        parts=(Part(truncated=False, partial=0),) if read.outbox else (),
        taken=options.taken,
        log_position=read.log_position,
        again=read.again,
    )
    return manifest, shortened, idle


def _apply(
    found: Look,
    places: Places,
    manifest: Manifest,
    options: RunOptions,
    complete: Reconciliation | None,
    on_phase: Callable[[str], object],
) -> Applied:
    increment = StagedIncrement(found.config, manifest, found.plan.strategy.name, complete, options.verify)
    with places.warehouse.session(query_tag=QueryTag.of(found.config, "load", manifest.load_id)) as session:
        (applied,) = apply_all(
            session,
            [increment],
            places.stage.store,
            log_schema=places.log_schema,
            allow_deletes=options.allow_deletes,
            on_phase=on_phase,
        )
    return applied


def _beginning(
    on_progress: Callable[[Progress], None] | None, manifest: Manifest | None = None
) -> Callable[[str], None]:
    """Return a function that reports the begin of a phase, with the size of the increment."""
    rows, size = (manifest.rows, manifest.bytes) if manifest else (0, 0)

    def begin(phase: str) -> None:
        if on_progress:
            on_progress(Progress(rows, size, 0.0, None, phase))

    return begin


def _applies_nothing(plan: Plan, options: RunOptions) -> bool:
    """Return whether a verification applies nothing: a full read would leave no difference to find."""
    return options.verify and plan.strategy.reads_whole


def _idle(found: Look, rows: int, options: RunOptions) -> bool:
    """Return whether there is nothing to apply: no rows, no rows of the target that they would replace, and no finding
    that the next run would meet again."""
    state, plan = found.state, found.plan
    if _applies_nothing(plan, options):
        return True
    news = any(each.action is not Action.GO_ON or each.is_schema_change for each in plan.verdict.findings)
    if rows or options.full or plan.reconcile or plan.read.renews or plan.read.again or news or plan.load:
        return False
    if state.watermark is None:
        return False
    return plan.read.disposition is not Disposition.REPLACE or state.target_rows == 0
