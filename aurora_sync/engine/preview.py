"""What a run would do, without doing it: the statement, about how many rows, what it would guarantee, what a reconcile
would cost, and every warning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.hints import read_state
from aurora_sync.engine.member import plan_of_stream, where_to_stream_from
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_increment, runs_until_reconcile
from aurora_sync.engine.runners.files import files_or_scan, plan_of_files
from aurora_sync.model import buckets
from aurora_sync.model.certificate import Certificate
from aurora_sync.model.state import State
from aurora_sync.source.reading import Reading
from aurora_sync.strategies.dms import Dms
from aurora_sync.strategies.streaming import Streaming


@dataclass(frozen=True)
class ReconcileEstimate:
    """A reconcile before it starts. Both sides are scanned once for their first sums, whatever differs; then only
    buckets that do. ``buckets`` 0: there is no key to compare by, and the table is read whole."""

    in_this_run: bool
    runs_before: int | None  # until the next by ``reconcile: {every: k}``
    schedule: str | None  # cron, UTC
    last_as_of: datetime | None
    source_bytes: int  # of the heap
    target_rows: int
    buckets: int


@dataclass(frozen=True)
class Preview:
    """One table's next increment. ``rows_estimate`` is the planner's, ``size_bytes`` the heap that a scan reads."""

    table: str
    target: str
    strategy: str
    method: str
    disposition: str
    statement: str
    rows_estimate: int | None  # None: what a stream has is not known before it is read
    rows_in_table: int
    size_bytes: int
    run_sequence: int
    certificate: Certificate
    reconcile: ReconcileEstimate
    warnings: tuple[str, ...]


def preview(config: TableConfig, places: Places) -> Preview:
    """Plan the next increment of one table in a read-only transaction and leave everything as it was.

    Raises what :func:`aurora_sync.engine.sync.run` would raise before it moves data.
    """
    state, _ = read_state(config, places, trust_hint=True)
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, RunOptions())
        estimate: int | None
        statement, estimate = reading.explain(plan.columns, plan.read.where)
        if isinstance(plan.strategy, Streaming):
            position, why = where_to_stream_from(config, reading.table, plan, state)
            if position:
                plan, estimate, statement = plan_of_stream(config, plan, state, position), None, position.statement
            else:
                plan = dataclasses.replace(plan, read=plan.read.because(f"scanned, not streamed: {why}"))
        if isinstance(plan.strategy, Dms):
            _, why = files_or_scan(config, plan, state)
            if why:
                plan = dataclasses.replace(plan, read=plan.read.because(f"scanned, not streamed: {why}"))
            else:
                plan, estimate = plan_of_files(config, plan, state), None
                statement = f"{plan.read.method} that the ledger does not have"
        return Preview(
            table=config.qualified_name,
            target=".".join(config.target),
            strategy=plan.strategy.name,
            method=plan.read.method,
            disposition=plan.read.disposition.value,
            statement=statement,
            rows_estimate=estimate,
            rows_in_table=reading.table.row_estimate,
            size_bytes=reading.table.size_bytes,
            run_sequence=state.run_sequence,
            certificate=plan.certificate,
            reconcile=_comparison(config, reading, state, plan),
            warnings=plan.warnings,
        )


def _comparison(config: TableConfig, reading: Reading, state: State, plan: Plan) -> ReconcileEstimate:
    rows, span = reading.table.row_estimate, reading.key_span(plan.key) if plan.key else 0
    return ReconcileEstimate(
        in_this_run=plan.reconcile,
        runs_before=runs_until_reconcile(config, state),
        schedule=config.reconcile.schedule if config.reconcile else None,
        last_as_of=state.reconciled.as_of if state.reconciled else None,
        source_bytes=reading.table.size_bytes,
        target_rows=state.target_rows,
        buckets=-(-span // buckets.first_width(rows, span)) or 1 if plan.key else 0,
    )
