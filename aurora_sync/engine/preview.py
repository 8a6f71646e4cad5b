"""A preview of a run: its statement, estimated rows and guarantees, the cost of a reconcile, and every warning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.estimate import FirstLoad, first_load
from aurora_sync.engine.load import chunk_bounds
from aurora_sync.engine.look import looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, runs_until_reconcile
from aurora_sync.engine.runners import runner_of
from aurora_sync.model import buckets
from aurora_sync.model.certificate import Certificate
from aurora_sync.model.state import State
from aurora_sync.source.reading import Reading


@dataclass(frozen=True)
class ReconcileEstimate:
    """The estimated cost of a reconcile. It always scans both sides once for the first sums, then only buckets that
    differ. ``buckets`` is 0 when there is no key to compare by: the whole table is read."""

    in_this_run: bool
    runs_before: int | None  # runs before the next one by ``reconcile: {every: k}``
    schedule: str | None  # cron, UTC
    last_as_of: datetime | None
    source_bytes: int  # of the heap
    target_rows: int
    buckets: int


@dataclass(frozen=True)
class Preview:
    """The next increment of one table. ``rows_estimate`` comes from the planner; ``size_bytes`` is the size of the heap
    that a scan reads."""

    table: str
    target: str
    strategy: str
    method: str
    disposition: str
    statement: str
    rows_estimate: int | None  # None for a stream: its changes are not counted before they are read
    rows_in_table: int
    size_bytes: int
    run_sequence: int
    certificate: Certificate
    reconcile: ReconcileEstimate
    warnings: tuple[str, ...]
    export: str = "client"  # who writes the rows to S3, and why not Aurora if tables.yaml asks for it
    first_load: FirstLoad | None = None  # when no run has loaded the table yet, and it is read by a SELECT


def preview(config: TableConfig, places: Places) -> Preview:
    """Plan the next increment of one table in a read-only transaction. Changes nothing.

    Raises the errors that :func:`aurora_sync.engine.sync.run` would raise before it moves data.
    """
    with looking(config, places, RunOptions(), trust_hint=True) as found:
        reading, state = found.reading, found.state
        select = reading.statement(found.plan.columns, found.plan.read.where)
        statement, estimate = reading.explain(select)
        plan, asked = runner_of(config).preview(found)
        reconcile = _reconcile(config, reading, state, plan)
        first = None
        if not (state.run_sequence or asked):
            by_client, number = config.export == "client", len(chunk_bounds(found, RunOptions()))
            first = first_load(reading, select, estimate, places.warehouse, chunks=number, compressed=by_client)
        return Preview(
            table=config.qualified_name,
            target=".".join(state.target or config.written_target),
            strategy=plan.strategy.name,
            method=plan.read.method,
            disposition=plan.read.disposition.value,
            statement=asked or statement,
            rows_estimate=None if asked else estimate,
            rows_in_table=reading.table.row_estimate,
            size_bytes=reading.table.size_bytes,
            run_sequence=state.run_sequence,
            certificate=plan.certificate,
            reconcile=reconcile,
            warnings=plan.warnings,
            first_load=first,
            export=_export_text(config, by_query=asked is None),
        )


def _export_text(config: TableConfig, *, by_query: bool) -> str:
    if config.export == "aurora" and not by_query:
        kind = config.watermark_type.value
        return f"client: changes of watermark_type {kind} do not come from a query; Aurora exports only scans"
    return config.export


def _reconcile(config: TableConfig, reading: Reading, state: State, plan: Plan) -> ReconcileEstimate:
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
