"""What a run would do, without doing it: the statement, about how many rows, and every warning."""

from __future__ import annotations

from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.places import Places
from aurora_sync.strategies import strategy_for
from aurora_sync.sync import plan_increment, read_state
from aurora_sync.validation import preflight


@dataclass(frozen=True)
class Preview:
    """One table's next increment. ``rows_estimate`` is the planner's, ``size_bytes`` the heap that a scan reads."""

    table: str
    target: str
    strategy: str
    method: str
    disposition: str
    statement: str
    rows_estimate: int
    rows_in_table: int
    size_bytes: int
    run_sequence: int
    warnings: tuple[str, ...]


def preview(config: TableConfig, places: Places) -> Preview:
    """Plan the next increment of one table in a read-only transaction and leave everything as it was.

    Raises what :func:`aurora_sync.sync.run` would raise before it moves data.
    """
    state, _ = read_state(config, places, trust_hint=True)
    strategy = strategy_for(config.watermark_type.value)
    with places.source.reading(config.schema_, config.table_name) as reading:
        _, plan, _ = plan_increment(config, strategy, reading, state.watermark)
        statement, estimate = reading.explain(preflight.selected_columns(config, reading.table), plan.where)
        return Preview(
            table=config.qualified_name,
            target=".".join(config.target),
            strategy=strategy.name,
            method=plan.method,
            disposition=plan.disposition.value,
            statement=statement,
            rows_estimate=estimate,
            rows_in_table=reading.table.row_estimate,
            size_bytes=reading.table.size_bytes,
            run_sequence=state.run_sequence,
            warnings=plan.warnings,
        )
