"""Small increments of several tables, applied in one session and one transaction of the warehouse.

Each table is read as sync.py describes, in a snapshot of its own. Common are the session that reads the states of the
targets, before any snapshot, and the end: logins, BEGIN and COMMIT are paid once. When the transaction fails, nothing
is applied, and each of its tables is synced by itself, so that a table with a problem does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, sync
from aurora_sync.engine.finish import Outcome, finish
from aurora_sync.engine.hints import Known
from aurora_sync.engine.load import chunk_bounds
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions
from aurora_sync.errors import AuroraSyncError, values_shown
from aurora_sync.model import foreign_text, tracing
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import Adjusted, Applied, Receipt
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

# The limits of one transaction, which holds the locks of its tables until it ends.
MOST_TABLES = 50
MOST_BYTES = 64_000_000  # of staged files, compressed


@dataclass(frozen=True)
class _Exported:
    """A table whose rows are staged. ``uri`` is that of its manifest; None when there is nothing to apply."""

    found: Look
    manifest: Manifest
    adjusted: tuple[Adjusted, ...]
    uri: str | None

    def finish(self, places: Places, applied: Applied | None) -> Receipt:
        outcome = Outcome(
            manifest=self.manifest,
            applied=applied,
            uri=self.uri,
            watch=self.found.watch,
            warnings=self.found.plan.warnings,
            adjusted=self.adjusted,
        )
        return finish(self.found, places, outcome)


@tracing.span("run", batch="several tables")
def sync_together(
    tables: Sequence[TableConfig],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_table: Callable[[str], object] = str,
) -> list[TableConfig]:
    """Bring the targets of tables up to date, and pass one receipt per table to ``on_receipt``; ``on_table`` is called
    with the name of each table before it is read. Returns the tables that need a run of their own: those that are
    compared or loaded for the first time, and those with an error, which that run meets again and reports."""
    options = RunOptions(allow_deletes=allow_deletes)
    left: list[TableConfig] = []
    waiting: list[_Exported] = []
    for config, known in _with_states(tables, places):
        on_table(config.qualified_name)
        with tracing.span("read", table=config.qualified_name):
            one = _exported(config, known, places, options)
        if one is None:
            left.append(config)
        elif one.uri is None:
            on_receipt(one.finish(places, None))
        else:
            waiting.append(one)
            if len(waiting) == MOST_TABLES or sum(each.manifest.bytes for each in waiting) > MOST_BYTES:
                left += _applied(waiting, places, options, on_receipt)
                waiting = []
    return left + _applied(waiting, places, options, on_receipt)


def _with_states(
    tables: Sequence[TableConfig], places: Places
) -> Iterator[tuple[TableConfig, Known | AuroraSyncError]]:
    """Yield the tables with the states of their targets, which are read for as many as one transaction takes."""
    for start in range(0, len(tables), MOST_TABLES):
        some = tables[start : start + MOST_TABLES]
        try:
            states = hints.read_states(some, places)
        except AuroraSyncError as error:
            states = [error] * len(some)
        yield from zip(some, states, strict=True)


def _exported(
    config: TableConfig, known: Known | AuroraSyncError, places: Places, options: RunOptions
) -> _Exported | None:
    """Stage the increment of a table; None when the table needs a run of its own."""
    try:
        if isinstance(known, AuroraSyncError):
            raise known
        if known.state.watermark is None:
            return None
        with values_shown(config.show_values), looking(config, places, options, known=known) as found:
            if found.plan.reconcile or found.plan.load or chunk_bounds(found, options):
                return None
            manifest, adjusted, idle = sync.export(found, places, options, None)
            found.close_snapshot()
            return _Exported(found, manifest, adjusted, None if idle else places.stage.commit(manifest))
    except AuroraSyncError as error:
        logger.info("%s is synced by itself: %s", config.qualified_name, error)
        return None


def _applied(
    waiting: Sequence[_Exported], places: Places, options: RunOptions, on_receipt: Callable[[Receipt], object]
) -> list[TableConfig]:
    """Apply the staged increments in one transaction. Returns their tables if it failed."""
    if not waiting:
        return []
    increments = [StagedIncrement(one.found.config, one.manifest, one.found.plan.strategy.name) for one in waiting]
    try:
        with places.warehouse.session(query_tag=QueryTag("load")) as session:
            applied = apply_all(
                session,
                increments,
                places.stage.store,
                log_schema=places.log_schema,
                allow_deletes=options.allow_deletes,
            )
    except AuroraSyncError as error:
        logger.info("%d tables are synced one by one: %s", len(waiting), error)
        return [one.found.config for one in waiting]
    for one, result in zip(waiting, applied, strict=True):
        on_receipt(one.finish(places, result))
    return []
