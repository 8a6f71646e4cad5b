"""Write notes about a table that do not depend on its strategy."""

from __future__ import annotations

from collections.abc import Iterator

from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import TableEvidence
from aurora_sync.model.column import Column
from aurora_sync.strategies import clock
from aurora_sync.strategies.integer import out_of_order
from aurora_sync.warehouse.types import may_misfit


def notes(found: TableEvidence) -> Iterator[str]:
    """Yield one sentence for each fact that a person should know about the table."""
    yield from _of_columns(found)
    activity = found.activity
    if activity.updated and len(found.table.indexes) and found.table.is_heap:
        share = activity.hot_updated / activity.updated
        yield f"{share:.0%} of the updates are HOT; an index on an added timestamp column would prevent HOT updates"
    yield from _of_storage(found)


def _of_columns(found: TableEvidence) -> Iterator[str]:
    """Notes on the keys, the sequences and the types of the columns."""
    table = found.table
    for index in table.indexes:
        if index.primary and not index.immediate:
            yield "the primary key is deferrable, so that replication cannot identify rows by it"
    for sequence in table.sequences.values():
        yield from out_of_order(sequence)
    for column in table.columns:
        if column.base_type in clock.TYPES and (text := _moment(column, found)):
            yield text
    if misfits := [column.name for column in table.columns if may_misfit(column)]:
        yield (
            f"{', '.join(misfits)}: the type of the source can hold values that no type of the warehouse can; such a"
            " column becomes text, unless types or column_types set another policy"
        )


def _of_storage(found: TableEvidence) -> Iterator[str]:
    """Notes on how the rows are stored, and on what writes or copies them."""
    table = found.table
    if found.toast:
        size = human_bytes(found.toast)
        yield f"{size} are stored out of line (TOAST): change logs omit values that an update does not change"
    if table.outbox:
        yield (
            f"triggers record changed keys in {'.'.join(table.outbox.relation)}, which grows until a sync with"
            " watermark_type: outbox empties it, or `aurora-sync triggers remove` drops it"
        )
    if table.unlogged:
        yield "the table is unlogged: change logs do not contain its changes, and a crash of the server empties it"
    if table.subscribed:
        yield "logical replication fills the table: its transaction ids come from this server, its timestamps do not"
    if found.partitions:
        yield f"{found.partitions:,} partitions; their rows are synced into one table"
    if found.analysed_at is None and found.heap and table.is_heap:
        yield "the table was never analysed: the numbers of rows and NULLs are unknown; run ANALYZE"


def _moment(column: Column, found: TableEvidence) -> str:
    """Describe how a time column, a possible watermark, is set; empty if nothing is known."""
    null_share = found.null_shares.get(column.name)
    kept = clock.kept_by_trigger(column.name, found.table)
    default = column.default or ""
    said = []
    if kept:
        said.append("a trigger sets it to the clock at every insert and update")
    elif clock.is_clock(default):
        said.append("its default is the clock, and no trigger sets it at an update")
    if null_share:
        said.append(f"NULL in {null_share:.0%} of the rows")
    return f"{column.name}: {'; '.join(said)}" if said else ""
