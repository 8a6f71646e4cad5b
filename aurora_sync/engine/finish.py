"""The receipt of one run, out of what it planned and what became of it."""

from __future__ import annotations

import dataclasses

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.plan import Plan
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import Adjusted, Applied, Receipt, Repair
from aurora_sync.model.state import State
from aurora_sync.model.verification import Verification


def with_adjusted(
    config: TableConfig, applied: Applied, before: tuple[Adjusted, ...]
) -> tuple[Applied, tuple[str, ...]]:
    """What was applied, with the values that were adjusted ``before`` they came to the warehouse; and the warnings of
    it. Values themselves are in it with show_values only."""
    adjusted = before + applied.adjusted
    if not config.show_values:
        adjusted = tuple(dataclasses.replace(each, examples=()) for each in adjusted)
    applied = dataclasses.replace(applied, adjusted=adjusted)
    return applied, (*map(str, adjusted), *(change.text for change in applied.changes))


def receipt_of(
    config: TableConfig,
    plan: Plan,
    manifest: Manifest,
    state: State,
    applied: Applied | None,
    repair: Repair | None,
    verification: Verification | None,
    uri: str | None,
    watch: Stopwatch,
    warnings: tuple[str, ...],
) -> Receipt:
    """``state`` is where the run left the target; ``applied`` None when there was nothing to apply."""
    at = plan.at
    lag = (at.snapshot.taken_at - at.oldest_writer).total_seconds() if at.oldest_writer else 0.0
    return Receipt(
        table=manifest.table,
        target=".".join(config.target),
        strategy=plan.strategy.name,
        method=plan.read.method,
        load_id=manifest.load_id,
        disposition=manifest.disposition,
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
        sees_deletes=plan.strategy.sees_deletes,
        watermark_lag_seconds=max(0.0, lag),
        certificate=manifest.certificate,
        adjusted=applied.adjusted if applied else (),
        schema_changes=tuple(found for found in plan.verdict.findings if found.is_schema_change)
        + (applied.changes if applied else ()),
        repair=repair,
        because="; ".join(plan.reasons),
        verification=verification,
        seconds=watch.seconds | (applied.seconds if applied else {}) | {"total": watch.total()},
        warnings=warnings,
    )
