"""What is synced at once: the tables of one replication slot, and every other table by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aurora_sync.config.tables import TableConfig, WatermarkType
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import files as dms
from aurora_sync.engine.runners import slot as stream
from aurora_sync.engine.runners import topic
from aurora_sync.engine.verify import not_compared
from aurora_sync.errors import TargetChangedError, values_shown
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.verification import Verification
from aurora_sync.source.copy_out import Progress

Batch = tuple[TableConfig, ...]


def slot_of(config: TableConfig) -> str | None:
    """The replication slot that brings the table's changes; None where none does."""
    return config.slot_name if config.watermark_type is WatermarkType.logical else None


def batches(chosen: Sequence[TableConfig], tables: Sequence[TableConfig]) -> list[Batch]:
    """Of the chosen ones among all tables. A slot's tables go together, chosen or not: the slot forgets what was read
    of it, and a table that was left out would have to be scanned."""
    found: list[Batch] = []
    for config in chosen:
        if any(config in batch for batch in found):
            continue
        slot = slot_of(config)
        found.append(tuple(other for other in tables if slot_of(other) == slot) if slot else (config,))
    return found


def run(
    batch: Batch,
    places: Places,
    on_receipt: Callable[[Receipt], object],
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the targets of the batch up to date; one receipt for each table that was. Raises as
    :func:`aurora_sync.engine.sync.run` does."""
    config = batch[0]
    if config.watermark_type is WatermarkType.logical:
        stream.run(batch, places, on_receipt, allow_deletes=allow_deletes, on_progress=on_progress)
    elif config.watermark_type is WatermarkType.debezium:
        topic.run(config, places, on_receipt, allow_deletes=allow_deletes, on_progress=on_progress)
    elif config.watermark_type is WatermarkType.dms:
        dms.run(config, places, on_receipt, allow_deletes=allow_deletes, on_progress=on_progress)
    else:
        on_receipt(sync.run(config, places, allow_deletes=allow_deletes, on_progress=on_progress))


def run_one(
    config: TableConfig,
    places: Places,
    *,
    full: bool = False,
    reconcile: bool = False,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """One table by itself; scanned, where its whole is asked for."""
    if full or reconcile:
        return sync.run(
            config, places, full=full, reconcile=reconcile, allow_deletes=allow_deletes, on_progress=on_progress
        )
    receipts: list[Receipt] = []
    run((config,), places, receipts.append, allow_deletes=allow_deletes, on_progress=on_progress)
    return receipts[-1]


def verify(config: TableConfig, places: Places, *, on_progress: Callable[[Progress], None] | None = None) -> Receipt:
    """Compare one table with its source, by content, behind the strategy's own increment: it repairs nothing. Raises
    NotComparedError where more than that increment would be needed."""
    with values_shown(config.show_values):
        try:
            if config.watermark_type is WatermarkType.logical:
                return stream.verify(config, places)
            if config.watermark_type is WatermarkType.debezium:
                return topic.verify(config, places)
            if config.watermark_type is WatermarkType.dms:
                return dms.verify(config, places)
            return sync.verify(config, places, on_progress=on_progress)
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
    """Put right what a verification found; None where it could not compare."""
    full = found is not None and found.same_version > 0
    return sync.run(config, places, full=full, reconcile=not full, allow_deletes=allow_deletes, on_progress=on_progress)
