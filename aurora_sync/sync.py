"""The page to read first: one table, one increment, top to bottom.

::

    state (hint or sync log) ─► observe: fence, then snapshot ─► judge the watermark ─► plan
        ─► COPY to S3, manifest last ─► one warehouse transaction {merge, deletes, sync log row} ─► hint

The order carries the promise. The state is read *before* the snapshot, so a rival run that commits in between
is noticed by the compare-and-set on the run sequence and never overwritten with older rows. The watermark
moves only inside the transaction that merges its rows. Killed anywhere, the next run starts from the last
committed watermark and ends at the same target.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, DefectError, RivalRunError, StageError, TargetChangedError
from aurora_sync.increment import Applied, Disposition, Manifest, Receipt, State, Watermark
from aurora_sync.places import Places
from aurora_sync.relation import Observation
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.reading import Reading
from aurora_sync.stage.layout import new_load_id
from aurora_sync.stopwatch import Stopwatch
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.base import ReadPlan, Strategy
from aurora_sync.strategies.identity import covers, judge
from aurora_sync.validation import preflight
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.apply import apply

logger = logging.getLogger(__name__)

# How long an idle table may go on from the hint alone. After that its sync log is read again, so that a target
# that was restored or edited by hand is noticed; each such look may start a warehouse, billed for a minute.
HEARTBEAT = timedelta(hours=1)


def run(
    config: TableConfig,
    places: Places,
    *,
    allow_deletes: bool = False,
    full: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Bring one table's target up to a snapshot of its source taken after this call began.

    ``full`` reads the whole table whatever the watermark says; ``allow_deletes`` lifts the delete guard. Raises
    ConfigError before anything moved when table and configuration do not fit, GuardError when going on would remove
    too much, RivalRunError when another run committed first; the target and its watermark are then as they were.
    """
    state, from_hint = read_state(config, places, trust_hint=not full)
    try:
        return _increment(config, places, state, from_hint, allow_deletes, full, on_progress)
    except (RivalRunError, TargetChangedError) as error:
        if isinstance(error, RivalRunError) and not from_hint:
            raise
        logger.warning("%s: starting again from the sync log: %s", config.qualified_name, error)
    state, from_hint = read_state(config, places, trust_hint=False)
    return _increment(config, places, state, from_hint, allow_deletes, full, on_progress)


def read_state(config: TableConfig, places: Places, *, trust_hint: bool) -> tuple[State, bool]:
    """Where the table's target stands, and whether only a hint says so. Reads, and changes nothing."""
    hint = places.stage.hint(_hint_name(config)) if trust_hint else None
    if hint and abs(datetime.now(UTC) - hint.confirmed_at) < HEARTBEAT:
        return hint.state, True
    with places.warehouse.session(query_tag=f"aurora_sync {config.qualified_name}") as session:
        return sync_log.read_state(session, config, log_schema=places.log_schema), False


def _increment(
    config: TableConfig,
    places: Places,
    state: State,
    from_hint: bool,
    allow_deletes: bool,
    full: bool,
    on_progress: Callable[[Progress], None] | None,
) -> Receipt:
    load_id = new_load_id()
    strategy = strategy_for(config.watermark_type.value)
    watch = Stopwatch()
    with (
        places.stage.attempt(config.qualified_name, load_id) as attempt,
        places.source.reading(config.schema_, config.table_name, load_id=load_id) as reading,
    ):
        with watch.phase("plan"):
            at, plan, after = plan_increment(config, strategy, reading, None if full else state.watermark)
            if state.watermark is None and state.run_sequence:
                text = f"the target is not as run {state.run_sequence} left it: reading the whole table again"
                plan = dataclasses.replace(plan, warnings=(text, *plan.warnings))
        for warning in plan.warnings:
            logger.warning("%s: %s", config.qualified_name, warning)
        with watch.phase("export"):
            columns = preflight.selected_columns(config, reading.table)
            rows = reading.copy(columns, plan.where, attempt, on_progress)
            attempt.close()
            if rows != sum(file.rows for file in attempt.files):
                raise DefectError(
                    f"PostgreSQL sent {rows} rows, and the files hold {sum(f.rows for f in attempt.files)}"
                )
            idle = _idle(state, plan, rows, full)
            source_rows = None if idle else _count(config, state, reading, plan)

    manifest = Manifest(
        table=config.qualified_name,
        load_id=load_id,
        prefix=attempt.prefix,
        disposition=plan.disposition,
        files=attempt.files,
        columns=columns,
        key=preflight.merge_key(config, reading.table),
        watermark_before=state.watermark,
        watermark_after=after,
        expected_sequence=state.run_sequence,
        expected_load_id=state.load_id,
        source_rows=source_rows,
    )
    applied, uri = None, None
    if not idle:
        uri = places.stage.commit(manifest)
        tag = f"aurora_sync {config.qualified_name} {load_id}"
        with places.warehouse.session(query_tag=tag) as session:
            applied = apply(
                session,
                config,
                manifest,
                places.stage.store,
                strategy=strategy.name,
                log_schema=places.log_schema,
                allow_deletes=allow_deletes,
            )
        state = State(applied.run_sequence, after, load_id, applied.target_rows, datetime.now(UTC))
    if applied or not from_hint:
        plan = _confirm(config, places, state, uri, plan)
    return _receipt(config, strategy, manifest, plan, at, state, applied, uri, watch)


def plan_increment(
    config: TableConfig, strategy: Strategy, reading: Reading, stored: Watermark | None
) -> tuple[Observation, ReadPlan, Watermark]:
    """Open the snapshot and decide what to read and what to remember. Raises ConfigError when table and
    configuration do not fit."""
    table = reading.table
    problems = preflight.problems(config, table, strategy)
    if problems:
        raise ConfigError(problems, where=config.qualified_name)
    at = reading.observe(strategy.fence(config), max_minutes=config.max_snapshot_minutes)
    what = covers(config, strategy, preflight.selected_columns(config, table), preflight.merge_key(config, table))
    verdict = judge(stored, at, what)
    plan = strategy.plan(config, table, verdict.since, at)
    after = Watermark(
        strategy=strategy.name,
        value=strategy.advance(config, table, verdict.since, at),
        snapshot=at.snapshot,
        token=at.token,
        covers=what,
    )
    return at, dataclasses.replace(plan, warnings=verdict.reasons + plan.warnings), after


def _hint_name(config: TableConfig) -> str:
    """Hints belong to a target: two entries of tables.yaml may sync one table into two."""
    return f"{config.qualified_name} to {'.'.join(config.target)}"


def _confirm(config: TableConfig, places: Places, state: State, uri: str | None, plan: ReadPlan) -> ReadPlan:
    """Leave a hint for the next run. The increment is applied whatever becomes of it: a failure is a warning."""
    try:
        places.stage.confirm(_hint_name(config), state, uri)
    except StageError as error:
        logger.warning("%s: no hint was left: %s", config.qualified_name, error)
        return dataclasses.replace(plan, warnings=(*plan.warnings, f"no hint was left for the next run: {error}"))
    return plan


def _count(config: TableConfig, state: State, reading: Reading, plan: ReadPlan) -> int | None:
    """What the target should hold afterwards, counted in the same snapshot, at every k-th run as configured."""
    check = config.checks.row_count
    if not check.enabled or (state.run_sequence + 1) % check.every:
        return None
    return reading.count(plan.scope)


def _idle(state: State, plan: ReadPlan, rows: int, full: bool) -> bool:
    """Nothing to apply: no rows, and no content of the target that they would replace."""
    if rows or full or state.watermark is None:
        return False
    return plan.disposition is not Disposition.REPLACE or state.target_rows == 0


def _receipt(
    config: TableConfig,
    strategy: Strategy,
    manifest: Manifest,
    plan: ReadPlan,
    at: Observation,
    state: State,
    applied: Applied | None,
    uri: str | None,
    watch: Stopwatch,
) -> Receipt:
    lag = (at.snapshot.taken_at - at.oldest_writer).total_seconds() if at.oldest_writer else 0.0
    return Receipt(
        table=manifest.table,
        target=".".join(config.target),
        strategy=strategy.name,
        method=plan.method,
        load_id=manifest.load_id,
        disposition=plan.disposition,
        run_sequence=state.run_sequence,
        changed=applied is not None,
        rows_exported=manifest.rows,
        bytes_staged=manifest.bytes,
        inserted=applied.inserted if applied else 0,
        updated=applied.updated if applied else 0,
        deleted=applied.deleted if applied else 0,
        source_rows=manifest.source_rows,
        target_rows=state.target_rows,
        watermark_before=manifest.watermark_before,
        watermark_after=manifest.watermark_after,
        manifest_uri=uri,
        columns=manifest.columns,
        key=manifest.key,
        sees_deletes=strategy.sees_deletes,
        watermark_lag_seconds=max(0.0, lag),
        seconds=watch.seconds | (applied.seconds if applied else {}) | {"total": watch.total()},
        warnings=plan.warnings,
    )
