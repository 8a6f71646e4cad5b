"""What a run would do, without doing it: the statement, about how many rows, and every warning."""

from __future__ import annotations

from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.places import Places
from aurora_sync.plan import Wish, plan_increment
from aurora_sync.sync import read_state


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
    with places.source.reading(config.schema_, config.table_name) as reading:
        plan = plan_increment(config, reading, state, Wish())
        statement, estimate = reading.explain(plan.columns, plan.read.where)
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
            warnings=plan.warnings,
        )
