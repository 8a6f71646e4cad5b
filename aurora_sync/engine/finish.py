"""The end of every run: the state that it left, the hint for the next run, the acknowledgement and the receipt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.errors import SourceError
from aurora_sync.model import foreign_text, tracing
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import Adjusted, Applied, QueryRef, Receipt, Repair
from aurora_sync.model.state import State
from aurora_sync.model.verification import Verification

logger = foreign_text.logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one table's increment. ``applied`` is None when there was nothing to apply; ``uri`` is the URI of
    the manifest; ``adjusted`` are values that were changed before they reached the warehouse."""

    manifest: Manifest
    applied: Applied | None
    uri: str | None
    watch: Stopwatch
    warnings: tuple[str, ...] = ()
    adjusted: tuple[Adjusted, ...] = ()
    repair: Repair | None = None
    verification: Verification | None = None
    compared: tuple[QueryRef, ...] = ()  # the statements of the verification


@tracing.span("finish")
def finish(found: Look, places: Places, outcome: Outcome) -> Receipt:
    """Acknowledge the increment at the source, leave a hint for the next run, and return the receipt. The increment is
    already applied, so a failure here is a warning."""
    config, plan, applied, warnings = found.config, found.plan, outcome.applied, outcome.warnings
    if applied:
        applied, more = _with_adjusted(config, applied, outcome.adjusted + _while_loading(found))
        state = State(
            applied.run_sequence,
            outcome.manifest.watermark_after,
            found.load_id,
            applied.target_rows,
            datetime.now(UTC),
            plan.certificate.reconciled,
            target=applied.target,
        )
        warnings += more + _acknowledge(found, places, state)
    else:
        state = dataclasses.replace(found.state, idle_runs=found.state.idle_runs + 1)
    counts_runs = config.reconcile is not None and config.reconcile.every is not None
    if not plan.verifies and (applied or found.hinted is None or counts_runs):
        warnings += hints.leave_hint(config, places, state, outcome.uri, None if applied else found.hinted)
    receipt = _receipt(found, outcome, state, applied, warnings)
    tracing.describe(receipt)
    return receipt


def _while_loading(found: Look) -> tuple[Adjusted, ...]:
    """Return the values that were adjusted in the chunks of a load of which this is the last run."""
    load = found.plan.load
    return tuple(Adjusted(*each) for each in load.adjusted) if load and not found.plan.watermark.load else ()


def _with_adjusted(
    config: TableConfig, applied: Applied, before: tuple[Adjusted, ...]
) -> tuple[Applied, tuple[str, ...]]:
    """Return the result with the values that were adjusted ``before`` they reached the warehouse, and its warnings. The
    values themselves are included only with show_values."""
    adjusted = before + applied.adjusted
    if not config.show_values:
        adjusted = tuple(dataclasses.replace(each, examples=()) for each in adjusted)
    applied = dataclasses.replace(applied, adjusted=adjusted)
    return applied, (*map(str, adjusted), *(change.text for change in applied.changes))


def _acknowledge(found: Look, places: Places, state: State) -> tuple[str, ...]:
    """Acknowledge, as the last step, what the target has. After a failure the next run reads the same changes again."""
    assert state.watermark is not None
    table, snapshot = found.reading.table, found.plan.strategy.acknowledgement(state.watermark.value)
    try:
        places.source.acknowledge(table, snapshot)
    except SourceError as error:
        logger.warning("%s: the outbox could not be emptied: %s", table.qualified_name, error)
        return (f"the outbox could not be emptied, so the next run reads its entries again: {error}",)
    return ()


def _receipt(
    found: Look, outcome: Outcome, state: State, applied: Applied | None, warnings: tuple[str, ...]
) -> Receipt:
    config, plan, at, manifest, watch = found.config, found.plan, found.plan.at, outcome.manifest, outcome.watch
    load = plan.load
    lag = (at.snapshot.taken_at - at.oldest_writer).total_seconds() if at.oldest_writer else 0.0
    changes = tuple(finding for finding in plan.verdict.findings if finding.is_schema_change)
    return Receipt(
        table=manifest.table,
        target=".".join(state.target or config.written_target),
        strategy=plan.strategy.name,
        method=f"{load.chunks} chunks, then {plan.read.method}" if load else plan.read.method,
        load_id=manifest.load_id,
        disposition=manifest.disposition,
        run_sequence=state.run_sequence,
        changed=applied is not None,
        rows_exported=manifest.rows + (load.rows if load else 0),
        bytes_staged=manifest.bytes + (load.bytes if load else 0),
        load=load,
        inserted=(applied.inserted if applied else 0) + (load.inserted if load else 0),
        updated=(applied.updated if applied else 0) + (load.updated if load else 0),
        deleted=applied.deleted if applied else 0,
        source_rows=manifest.source_rows,
        target_rows=state.target_rows,
        watermark_before=manifest.watermark_before,
        watermark_after=manifest.watermark_after,
        manifest_uri=outcome.uri,
        columns=manifest.columns,
        key=manifest.key,
        sees_deletes=plan.strategy.sees_deletes,
        watermark_lag_seconds=max(0.0, lag),
        certificate=manifest.certificate,
        adjusted=applied.adjusted if applied else (),
        schema_changes=changes + (applied.changes if applied else ()),
        repair=outcome.repair,
        because="; ".join(plan.reasons),
        verification=outcome.verification,
        seconds=watch.seconds | (applied.seconds if applied else {}) | {"total": watch.total()},
        queries=(*found.queries, *(applied.queries if applied else ()), *outcome.compared),
        warnings=warnings,
    )
