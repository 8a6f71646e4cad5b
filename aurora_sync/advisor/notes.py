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
        yield f"{share:.0%} of the updates are HOT; an index on a new column ends that"
    yield from _of_storage(found)


def _of_columns(found: TableEvidence) -> Iterator[str]:
    """Notes on the keys, the sequences and the types of the columns."""
    table = found.table
    for index in table.indexes:
        if index.primary and not index.immediate:
            yield "its primary key is deferrable, and identifies no row for replication"
    for sequence in table.sequences.values():
        yield from out_of_order(sequence)
    for column in table.columns:
        if column.base_type in clock.TYPES and (text := _moment(column, found)):
            yield text
    if misfits := [column.name for column in table.columns if may_misfit(column)]:
        yield (
            f"{', '.join(misfits)}: values are possible that no type of the warehouse holds; a column that may have"
            " them becomes text, unless types or column_types say otherwise"
        )


def _of_storage(found: TableEvidence) -> Iterator[str]:
    """Notes on how the rows are stored, and on what writes or copies them."""
    table = found.table
    if found.toast:
        yield f"{human_bytes(found.toast)} lie out of line (TOAST): no log repeats them when an update leaves them"
    if table.outbox:
        yield (
            f"triggers write its changes down in {'.'.join(table.outbox.relation)}, which grows until a sync with"
            " watermark_type: outbox empties it, or `aurora-sync triggers remove` takes it away"
        )
    if table.unlogged:
        yield "it is unlogged: no log has its changes, and a crash empties it"
    if table.subscribed:
        yield "it is filled by logical replication: its transaction ids are those of this server, its times are not"
    if found.partitions:
        yield f"{found.partitions:,} partitions; their rows are synced as those of one table"
    if found.analysed_at is None and found.heap and table.is_heap:
        yield "it was never analysed: rows and NULLs are not known (ANALYZE)"


def _moment(column: Column, found: TableEvidence) -> str:
    """Describe how a time column, a possible watermark, is set; empty if nothing is known."""
    null_share = found.null_shares.get(column.name)
    kept = clock.kept_by_trigger(column.name, found.table)
    default = column.default or ""
    said = []
    if kept:
        said.append("a trigger sets it to the clock at every insert and update")
    elif clock.is_clock(default):
        said.append("its default is the clock, and nothing moves it at an update")
    if null_share:
        said.append(f"NULL in {null_share:.0%} of the rows")
    return f"{column.name}: {'; '.join(said)}" if said else ""
