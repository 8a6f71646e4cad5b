"""The state that a run resumes from: the newest entry of the sync log, and how the target differs from what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.model.certificate import Certificate
from aurora_sync.model.names import TargetNames, differing_by_case
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import DELETED, RUN_SEQ, SRC_XMIN, TableName, alike, existing_columns
from aurora_sync.warehouse.located import find_target
from aurora_sync.warehouse.sync_log import SCHEMA, Count, LogEntry, log_table, newest_entry, newest_of

# ``Left.sums`` of a target that is being loaded in chunks: each sum would read the whole target.
NOT_SUMMED = ""


def as_if_not_edited(entry: LogEntry, before: Count, after: Count) -> Count:
    """Return the counts to log when a run changed an edited target from ``before`` to ``after``: those of a target that
    was still as the run of ``entry`` left it. The next run then finds the same edit."""
    left = Watermark.from_json(entry.watermark).left
    were = left.sums if left else before.sums
    numbers = zip(*(text.split("/") for text in (were, before.sums, after.sums)), strict=True)
    return Count(
        after.rows,
        entry.target_rows + after.present - before.present,
        "/".join(str(int(was) + int(now) - int(then)) for was, then, now in numbers),
    )


def difference(entry: LogEntry, columns: Mapping[str, str], now: Count) -> str:
    """Describe how the target differs from what the run of ``entry`` left, so that only a full read helps; empty when
    no difference is found."""
    if entry.target_rows != now.present:
        return f"the target has {now.present} rows, but had {entry.target_rows} after run {entry.run_sequence}"
    return columns_changed(entry, columns)


def columns_changed(entry: LogEntry, columns: Mapping[str, str]) -> str:
    """Describe which column of the target changed since the run of ``entry``; empty when none did."""
    left = Watermark.from_json(entry.watermark).left
    if left is None:
        return ""
    names = TargetNames("preserve", tuple(columns), differing_by_case(left.columns))
    present = {name: names.present(name) or "" for name in left.columns}  # a column may have got a name of another case
    for name, type_ in left.columns.items():
        has = columns.get(present[name])
        if not alike(has, type_):
            found = f"is {has}" if has else "is missing"
            return f"column {name} of the target {found}, but was {type_} after run {entry.run_sequence}"
    former = {now: name for name, now in present.items()}
    order = [former[name] for name in columns if name in former]
    if left.order and order != left.order:
        return f"column {order[-1]} was dropped and added again since run {entry.run_sequence}"
    return ""


def edited(entry: LogEntry, now: Count) -> str:
    """Describe why the target does not hold the rows that the run of ``entry`` left, although their number is the same;
    empty when it seems to hold them."""
    left = Watermark.from_json(entry.watermark).left
    if left is None or left.sums in (NOT_SUMMED, now.sums):
        return ""
    return f"rows of the target were modified outside of aurora_sync after run {entry.run_sequence}"


def loading_state(session: Session, target: TableName, log_schema: str) -> State | None:
    """Return the state of a target that is being loaded in chunks, from its newest entry alone; None for any other."""
    if not existing_columns(session, log_table(log_schema)):
        return None
    entry = newest_entry(session, target, log_schema)
    watermark = Watermark.from_json(entry.watermark) if entry else None
    if entry is None or watermark is None or watermark.load is None:
        return None
    watermark = replace(watermark, left=None)
    return State(entry.run_sequence, watermark, entry.load_id, entry.target_rows, entry.applied_at)


def read_state(session: Session, config: TableConfig, log_schema: str = SCHEMA, *, as_found: bool = False) -> State:
    """Return the state to resume from. Writes nothing.

    The state has no watermark when the target is gone, or differs from the log because it was restored or edited by
    hand. The run is then a full one, and the run sequence continues. ``as_found`` keeps the watermark unless the
    columns changed, because a verification compares the rows as they are. Raises WarehouseError when a newer release
    wrote the watermark.
    """
    if not existing_columns(session, log_table(log_schema)):
        return State(run_sequence=0, watermark=None)
    target, described = find_target(session, config)
    place, columns = (target.schema, target.name), {name: column.type for name, column in described.items()}
    now = Count(0, 0, "")
    lacking = {RUN_SEQ, SRC_XMIN} - columns.keys()
    if lacking:
        entry = newest_entry(session, target, log_schema)
    else:
        entry, now = newest_of(session, target, log_schema, marks=DELETED in columns)
    if entry is None:
        return State(run_sequence=0, watermark=None)
    try:
        watermark = Watermark.from_json(entry.watermark)
        if not columns:
            changed = f"{target} does not exist"
        elif lacking:
            changed = f"{target} has no column {', '.join(sorted(lacking))}"
        else:
            changed = columns_changed(entry, columns) if as_found else difference(entry, columns, now)
        if changed:
            return State(
                entry.run_sequence, None, entry.load_id, source_table=entry.source_table, edited=changed, target=place
            )
        watermark = replace(watermark, left=None)
    except ValueError as error:
        raise WarehouseError(
            f"the watermark of run sequence {entry.run_sequence} cannot be read: {error}",
            where=f"{log_table(log_schema)} for {target}",
            hint="another release of aurora_sync wrote the watermark; install that release or a newer one",
        ) from error
    return State(
        entry.run_sequence,
        watermark,
        entry.load_id,
        entry.target_rows,
        entry.applied_at,
        Certificate.reconciled_in(entry.certificate),
        source_table=entry.source_table,
        edited=difference(entry, columns, now) or edited(entry, now),
        target=place,
    )
