"""Batches, the tables that one run syncs together: those of one replication slot, or a single table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import runner_of
from aurora_sync.engine.together import sync_together
from aurora_sync.engine.verify import not_compared
from aurora_sync.errors import TargetChangedError, values_shown
from aurora_sync.model import tracing
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.verification import Verification
from aurora_sync.source.copy_out import Progress

Batch = tuple[TableConfig, ...]


def shared_with(config: TableConfig) -> str | None:
    """Return the replication slot whose tables are synced together with this one; None when it is synced by itself."""
    return runner_of(config).shared_with(config)


def batches(chosen: Sequence[TableConfig], tables: Sequence[TableConfig]) -> list[Batch]:
    """Group the chosen tables into batches. The tables of a slot stay together, chosen or not: the slot discards what
    was read from it, so a table left out would have to be scanned."""
    of_slot: defaultdict[str, list[TableConfig]] = defaultdict(list)
    for config in tables:
        if slot := shared_with(config):
            of_slot[slot].append(config)
    # By name, because to compare a thousand configurations with each other takes seconds. Two may have one source.
    found: dict[object, Batch] = {}
    for config in chosen:
        if slot := shared_with(config):
            found.setdefault(slot, tuple(of_slot[slot]))
        else:
            found.setdefault((config.qualified_name, config.target), (config,))
    return list(found.values())


def run(
    batch: Sequence[TableConfig],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the targets of the batch up to date, and pass one receipt per updated table to ``on_receipt``. Raises as
    :func:`aurora_sync.engine.sync.run` does."""
    runner_of(batch[0]).run(batch, places, on_receipt, allow_deletes=allow_deletes, on_progress=on_progress)


def run_together(
    batches: Sequence[Batch],
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_table: Callable[[str], object] = str,
) -> list[Batch]:
    """Sync the tables that are read by themselves, with their small increments in common transactions, and pass one
    receipt per updated table to ``on_receipt``. ``on_table`` is called with the name of each table before it is read.
    Returns the batches that need a run of their own."""
    joining = [batch[0] for batch in batches if runner_of(batch[0]).joins]
    if len(joining) < 2:
        return list(batches)
    left = sync_together(joining, places, on_receipt, allow_deletes=allow_deletes, on_table=on_table)
    return [batch for batch in batches if batch[0] not in joining or batch[0] in left]


def run_one(
    config: TableConfig,
    places: Places,
    *,
    full: bool = False,
    reconcile: bool = False,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Sync one table by itself and return its receipt. ``full`` and ``reconcile`` scan it."""
    if full or reconcile:
        return sync.run(
            config, places, full=full, reconcile=reconcile, allow_deletes=allow_deletes, on_progress=on_progress
        )
    receipts: list[Receipt] = []
    run((config,), places, receipts.append, allow_deletes=allow_deletes, on_progress=on_progress)
    return receipts[-1]


def verify(config: TableConfig, places: Places, *, on_progress: Callable[[Progress], None] | None = None) -> Receipt:
    """Apply the strategy's own increment to one table, then compare the table with its source by content. Repairs
    nothing. Raises NotComparedError when more than that increment would be needed."""
    with values_shown(config.show_values), tracing.span("verify", batch=config.qualified_name):
        try:
            return runner_of(config).verify(config, places, on_progress=on_progress)
        except TargetChangedError as error:
            raise not_compared(config, error.what) from error


def repair(
    config: TableConfig,
    places: Places,
    found: Verification | None,
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Repair what a verification found; ``found`` is None when it could not compare."""
    full = found is not None and found.same_version > 0
    return sync.run(config, places, full=full, reconcile=not full, allow_deletes=allow_deletes, on_progress=on_progress)
