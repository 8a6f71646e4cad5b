"""The page to read first: one table, one increment, top to bottom.

::

    state (hint or sync log) ─► observe: fence, then snapshot ─► judge the watermark ─► plan
        ─► COPY to S3, manifest last ─► one warehouse transaction {merge, deletes, sync log row} ─► hint

A run that reconciles keeps its snapshot open until the increment is staged, compares, and takes what differs into
the same transaction (engine/reconcile.py).

The order carries the promise. The state is read *before* the snapshot, so a rival run that commits in between
is noticed by the compare-and-set on the run sequence and never overwritten with older rows. The watermark
moves only inside the transaction that merges its rows. Killed anywhere, the next run starts from the last
committed watermark and ends at the same target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints
from aurora_sync.engine.finish import receipt_of, with_adjusted
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_increment, source_count
from aurora_sync.engine.reconcile import Reconciliation
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import assert_comparable, state_as_found
from aurora_sync.engine.verify import verify as prove
from aurora_sync.errors import DefectError, RivalRunError, SourceError, TargetChangedError, values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition, Manifest, Part, TakenFile
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.state import State
from aurora_sync.source import canary, outbox
from aurora_sync.source.copy_out import Progress
from aurora_sync.stage.layout import new_load_id
from aurora_sync.strategies import identity
from aurora_sync.warehouse.apply import apply

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
    """Bring one table's target up to a snapshot of its source taken after this call began.

    ``full`` reads the whole table whatever the watermark says; ``reconcile`` compares the target with the source and
    repairs it; ``allow_deletes`` lifts the delete guard; ``taken`` are files of others whose changes the snapshot has.
    Raises ConfigError before anything moved when table and configuration do not fit, GuardError when going on would
    remove too much, RivalRunError when another run committed first; the target and its watermark are then as they
    were.
    """
    with values_shown(config.show_values):
        return _run(config, places, RunOptions(full, reconcile, allow_deletes), on_progress, taken)


def _run(
    config: TableConfig,
    places: Places,
    options: RunOptions,
    on_progress: Callable[[Progress], None] | None,
    taken: tuple[TakenFile, ...],
) -> Receipt:
    state, hinted = hints.read_state(config, places, trust_hint=not (options.full or options.reconcile))
    while True:
        try:
            return _increment(config, places, state, hinted, options, on_progress, taken)
        except (RivalRunError, TargetChangedError) as error:
            as_text = options.as_text | getattr(error, "as_text", frozenset())
            if hinted is None and isinstance(error, RivalRunError):
                raise
            if hinted is None and options.full and as_text == options.as_text:
                raise
            logger.warning("%s: starting again from the sync log: %s", config.qualified_name, error)
            if isinstance(error, TargetChangedError):
                # Another look at the target need not show it again: columns may have been added meanwhile.
                because = options.because if options.full else f"{error.what}: reading the whole table again"
                options = dataclasses.replace(options, full=True, because=because, as_text=as_text)
        state, hinted = hints.read_state(config, places, trust_hint=False)


def verify(config: TableConfig, places: Places, *, on_progress: Callable[[Progress], None] | None = None) -> Receipt:
    """Apply the increment of a run, and nothing else, and compare source and target in its snapshot, by content.

    Raises NotComparedError where a run would scan, reconcile or read the whole table instead.
    """
    state = state_as_found(config, places)
    return _increment(config, places, state, None, RunOptions(verify=True), on_progress, ())


def _increment(
    config: TableConfig,
    places: Places,
    state: State,
    hinted: datetime | None,
    options: RunOptions,
    on_progress: Callable[[Progress], None] | None,
    taken: tuple[TakenFile, ...],
) -> Receipt:
    load_id = new_load_id()
    watch = Stopwatch()
    with places.stage.attempt(config.qualified_name, load_id) as attempt, ExitStack() as source:
        reading = source.enter_context(places.source.reading(config.schema_, config.table_name, load_id=load_id))
        with watch.phase("plan"):
            plan = plan_increment(config, reading, state, options)
        if options.verify:
            assert_comparable(config, plan)
        nothing = options.verify and plan.strategy.reads_whole  # would be left to differ
        for warning in (text for text in plan.warnings if text not in plan.reasons):
            logger.warning("%s: %s", config.qualified_name, warning)
        with watch.phase("export"):
            rows = (
                0
                if nothing
                else reading.copy(plan.columns, plan.read.where, attempt, on_progress, outbox=plan.read.outbox)
            )
            attempt.close()
            if rows != sum(file.rows for file in attempt.files):
                raise DefectError(
                    f"PostgreSQL sent {rows} rows, and the files hold {sum(f.rows for f in attempt.files)}"
                )
            shortened = reading.long_values(plan.columns, plan.key, plan.read.where, longest_row=attempt.longest)
            idle = nothing or _idle(state, plan, rows, options)
            source_rows = None if idle or plan.reconcile else source_count(config, state, reading, plan)
        ending = outbox.live_row_ending(plan.read.outbox) if plan.read.outbox else b""
        newest = canary.pick(attempt.tail, plan.columns, plan.key, plan.at.snapshot, identity.CANARIES, ending=ending)
        manifest = Manifest(
            table=config.qualified_name,
            load_id=load_id,
            prefix=attempt.prefix,
            disposition=plan.read.disposition,
            files=attempt.files,
            columns=plan.columns,
            key=plan.key,
            watermark_before=state.watermark,
            watermark_after=plan.after(identity.canaries(state.watermark, plan.at, newest)),
            expected_sequence=state.run_sequence,
            expected_load_id=state.load_id,
            source_rows=source_rows,
            certificate=plan.certificate,
            evolution=plan.evolution,
            fill={column.name: column.missing for column in plan.verdict.backfill},
            parts=(Part(truncated=False, partial=0),) if plan.read.outbox else (),
            taken=taken,
        )
        reconciliation = Reconciliation(config, places.stage, reading, plan, manifest) if plan.reconcile else None
        if not (reconciliation or options.verify):
            source.close()  # an open snapshot holds vacuum back
        applied, uri = None, None
        if not idle:
            uri = None if reconciliation else places.stage.commit(manifest)
            tag = f"aurora_sync {config.qualified_name} {load_id}"
            with places.warehouse.session(query_tag=tag) as session:
                applied = apply(
                    session,
                    config,
                    manifest,
                    places.stage.store,
                    strategy=plan.strategy.name,
                    log_schema=places.log_schema,
                    allow_deletes=options.allow_deletes,
                    complete=reconciliation,
                    as_found=options.verify,
                )
        if reconciliation:
            manifest, uri = reconciliation.manifest, reconciliation.uri
        verification = None
        if options.verify:
            expected = applied.run_sequence if applied else state.run_sequence
            verification = prove(config, places, reading, plan, manifest, expected)
    if applied:
        last = plan.certificate.reconciled
        state = State(
            applied.run_sequence, manifest.watermark_after, load_id, applied.target_rows, datetime.now(UTC), last
        )
    else:
        state = dataclasses.replace(state, idle_runs=state.idle_runs + 1)
    warnings = plan.warnings + (reconciliation.warnings if reconciliation else ())
    if applied:
        applied, more = with_adjusted(config, applied, shortened)
        warnings += more + _acknowledge(places, reading.table, state)
    if not options.verify and (applied or hinted is None or (config.reconcile and config.reconcile.every)):
        warnings += hints.leave_hint(config, places, state, uri, None if applied else hinted)
    repair = reconciliation.repair if reconciliation else None
    return receipt_of(config, plan, manifest, state, applied, repair, verification, uri, watch, warnings)


def _acknowledge(places: Places, table: SourceTable, state: State) -> tuple[str, ...]:
    """Tell the source, last of all, what the target has. A failure is a warning: the next run reads it again."""
    assert state.watermark is not None
    try:
        places.source.acknowledge(table, state.watermark)
    except SourceError as error:
        logger.warning("%s: its outbox was not emptied: %s", table.qualified_name, error)
        return (f"the outbox was not emptied, and what is in it is read again: {error}",)
    return ()


def _idle(state: State, plan: Plan, rows: int, options: RunOptions) -> bool:
    """Nothing to apply: no rows, no content of the target that they would replace, and nothing found that the next
    run would find or scan for again."""
    found = any(finding.action is not Action.GO_ON or finding.is_schema_change for finding in plan.verdict.findings)
    if rows or options.full or plan.reconcile or plan.read.renews or found or state.watermark is None:
        return False
    return plan.read.disposition is not Disposition.REPLACE or state.target_rows == 0
