"""The warehouse's counterpart of source/sums.py: the same sums over the target as it will be after an increment is
merged."""

# ruff: noqa: S608 - every name went through identifier(), and every value is a number

from __future__ import annotations

from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import KEY_NO, SRC_XMIN, Layout
from aurora_sync.warehouse.merge import PRESENT, counted, digits, joined, key_number, xmin
from aurora_sync.warehouse.types import FORMS


def number(layout: Layout) -> str:
    """Return the key number of a row of the target."""
    # A row that somebody inserted by hand may have none; it counts as a ghost in bucket 0.
    return f"CAST({layout.key[0].sql} AS NUMBER(19,0))" if layout.key_is_number else f'COALESCE("{KEY_NO}", 0)'


def within(number: str, buckets: Buckets) -> str:
    """Return the condition that a key number is in one of the buckets; empty for the whole table."""
    if buckets.labels is None:
        return ""
    return f"{number} - MOD({number}, {buckets.width}) IN ({', '.join(map(str, buckets.labels))})"


def version_sums(layout: Layout, among: Buckets, width: int) -> str:
    kept = (
        f'SELECT {number(layout)} AS N, COALESCE("{SRC_XMIN}", 0) AS X FROM {layout.target.sql}'
        f" WHERE {_not_staged(layout)}"
    )
    staged = f"SELECT {key_number(layout)} AS N, {xmin()} AS X FROM {layout.staging.sql} AS s"
    condition = within("N", among)
    return (
        f"SELECT N - MOD(N, {width}), COUNT(*), SUM(X), SUM(X * MOD(N, 65521)) FROM ({kept} UNION ALL {staged})"
        f"{' WHERE ' + condition if condition else ''} GROUP BY 1"
    )


def content_sums(layout: Layout, among: Buckets, width: int, *, merged: bool) -> str:
    """Sum the columns whose type has a form, over the target as it is, or with ``merged`` as it will be after the
    merge."""

    def content(values: dict[str, str]) -> str:
        return digits(joined([counted(FORMS[form].format(value)) for value, form in values.items()]))

    columns = [column for column in layout.columns if column.rule.form]
    rows = (
        f"SELECT {number(layout)} AS N, {content({c.sql: c.rule.form for c in columns})} AS X FROM {layout.target.sql}"
    )
    if merged:
        staged = content({c.value: c.rule.form for c in columns})
        rows += f" WHERE {_not_staged(layout)} UNION ALL SELECT {key_number(layout)}, {staged} FROM"
        rows += f" {layout.staging.sql} AS s"
    elif layout.marks:
        rows += f" WHERE {PRESENT}"
    condition = within("N", among)
    return (
        f"SELECT N - MOD(N, {width}), COUNT(*), SUM(X) FROM ({rows}) AS r"
        f"{' WHERE ' + condition if condition else ''} GROUP BY 1"
    )


def _not_staged(layout: Layout) -> str:
    """Return the condition on target rows that a merge leaves unchanged."""
    present = f"{PRESENT} AND " if layout.marks else ""
    same = " AND ".join(f"{column.value} = {layout.target.sql}.{column.sql}" for column in layout.key)
    return f"{present}NOT EXISTS (SELECT 1 FROM {layout.staging.sql} AS s WHERE {same})"


def read(session: Session, statement: str) -> Sums:
    return {int(label): tuple(map(int, sums)) for label, *sums in session.query(statement)}


def count_differences(layout: Layout, among: Buckets) -> str:
    """Count the staged rows of these buckets that the target lacks, and those of which it has another version."""
    same = " AND ".join(f"{column.value} = t.{column.sql}" for column in layout.key)
    present = f" AND t.{PRESENT}" if layout.marks else ""
    condition = within(key_number(layout), among)
    return (
        f'SELECT COUNT(CASE WHEN t."{SRC_XMIN}" IS NULL THEN 1 END),'
        f' COUNT(CASE WHEN t."{SRC_XMIN}" <> {xmin()} THEN 1 END)'
        f" FROM {layout.staging.sql} AS s LEFT JOIN {layout.target.sql} AS t ON {same}{present}"
        f"{' WHERE ' + condition if condition else ''}"
    )
