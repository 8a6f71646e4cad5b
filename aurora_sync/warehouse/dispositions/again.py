"""A range of keys that was read again: the rows of it that the source does not have are deleted."""

from __future__ import annotations

import shlex

from aurora_sync.errors import GuardError
from aurora_sync.model.reload import INTEGERS, RowRange
from aurora_sync.warehouse import history, merge
from aurora_sync.warehouse.ddl import Layout
from aurora_sync.warehouse.dispositions.base import Merging, guard_range

_NUMBERS = (*INTEGERS, "numeric")
# The types of the target that order keys as PostgreSQL does.
_ORDERED = {
    **dict.fromkeys(_NUMBERS, "NUMBER"),
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP",
    "uuid": "VARCHAR",
}


def delete_missing(merging: Merging) -> int:
    """Delete the rows of the target in the range that are not staged. Return their number.

    The files hold every row that the source has in the range, in the snapshot of the increment. A reconcile in the same
    run finds these rows itself.
    """
    rows = merging.manifest.again
    if rows is None or not rows.is_key or merging.manifest.repaired is not None:
        return 0
    within = condition(merging.layout, rows, merging.manifest.table)
    history.record_missing(merging, merge.unstaged(merging.layout, within))
    deleted = merging.session.modify(merge.delete_unstaged(merging.layout, within), merging.marking)
    guard_range(merging, rows, deleted)
    return deleted


def condition(layout: Layout, rows: RowRange, table: str) -> str:
    """Return the condition on the target's rows in a range of keys. Raises GuardError if the target orders the keys in
    another way."""
    column = next(column for column in layout.key if column.source.name == rows.column)
    if not column.rule.target.startswith(_ORDERED[rows.type]):
        raise GuardError(
            f"the key column {column.name} of {layout.target} is {column.rule.target}, which orders keys in another way"
            f" than {column.source.type_name}",
            where=table,
            hint=f"nothing was applied; run `aurora-sync reconcile {shlex.quote(table)}`, or give a time with since",
        )
    name = f"{layout.target.sql}.{column.sql}"
    bounds = [
        f"{name} {sign} {bound if rows.type in _NUMBERS else column.rule.cast.format(_quoted(bound))}"
        for sign, bound in ((">=", rows.lower), ("<", rows.upper))
        if bound
    ]
    return " AND ".join(bounds)


def _quoted(bound: str) -> str:
    return f"'{bound}'"
