"""Bounds of the staged keys: conditions on the target's key by which Snowflake skips micro-partitions.

Snowflake keeps the least and the greatest value of each column of a micro-partition, and compares them with the
constants of a statement. A join alone rarely skips any. Every condition here follows from the equality of the keys, so
it never changes a result. It helps where the target is ordered by its key, as a first load leaves it.

Source: "Pruning in Snowflake: Working Smarter, Not Harder" (SIGMOD 2025).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from aurora_sync.warehouse.ddl import Layout, TargetColumn, literal

# Up to this number of staged rows, the keys are listed one by one.
FEW_ROWS = 1000
# A longer list or text is not written into a statement.
_LONGEST_LIST = 64_000
_LONGEST_TEXT = 256
_BOUNDED = ("NUMBER", "VARCHAR", "DATE", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ")
_LISTED = ("NUMBER", "VARCHAR")


@dataclass(frozen=True)
class Bound:
    """A condition on one column of the target, such as ``BETWEEN 1 AND 9``."""

    column: TargetColumn
    condition: str

    def on(self, alias: str) -> str:
        return f"{alias}.{self.column.sql} {self.condition}"


def select(layout: Layout, rows: int) -> list[str]:
    """Return the SQL expressions over the staging table ``s`` that :func:`read` takes the values of."""
    found = []
    for column in _bounded(layout):
        found += [f"MIN({_typed(column)})", f"MAX({_typed(column)})"]
    if _lists(layout, rows):
        found.append(f"ARRAY_AGG({_typed(layout.key[0])})")
    return found


def read(layout: Layout, rows: int, values: Iterator[Any]) -> tuple[Bound, ...]:
    """Return the bounds from the values of :func:`select`."""
    found = []
    for column in _bounded(layout):
        zoned = column.rule.target
        least, greatest = _constant(next(values), zoned), _constant(next(values), zoned)
        if least and greatest:
            found.append(Bound(column, f"BETWEEN {least} AND {greatest}"))
    if _lists(layout, rows) and (listed := _listed(layout.key[0], next(values))):
        return (listed,)
    return tuple(found)


def _typed(column: TargetColumn) -> str:
    """Return the value of a staged column in the type of the target, whose order differs from that of the texts: 9.00
    is less than 10.00. A value that does not fit is NULL; the bound of its column is then not used."""
    if column.rule.is_text:
        return column.staged
    if not column.misfit or column.rule.policy in ("null", "clamp"):
        return column.value
    return column.rule.under("null").cast.format(column.staged)


def _bounded(layout: Layout) -> list[TargetColumn]:
    return [column for column in layout.key if _type(column) in _BOUNDED]


def _lists(layout: Layout, rows: int) -> bool:
    return rows <= FEW_ROWS and len(layout.key) == 1 and _type(layout.key[0]) in _LISTED


def _type(column: TargetColumn) -> str:
    return column.rule.target.partition("(")[0]


def _listed(column: TargetColumn, array: Any) -> Bound | None:
    values: Sequence[Any] = json.loads(array, parse_float=Decimal) if isinstance(array, str) else array or ()
    constants = [_constant(value) for value in dict.fromkeys(values)]
    if not constants or None in constants or sum(len(constant or "") for constant in constants) > _LONGEST_LIST:
        return None
    return Bound(column, f"IN ({', '.join(constant for constant in constants if constant)})")


def _constant(value: Any, zoned: str = "") -> str | None:
    """Return a value as a constant of SQL; None when it has no short one. ``zoned`` is the type of a time with a zone.

    >>> _constant(Decimal("1E+2")), _constant("it's"), _constant(date(2024, 2, 29))
    ('100', "'it''s'", "CAST('2024-02-29' AS DATE)")
    """
    if isinstance(value, str):
        return literal(value) if len(value) <= _LONGEST_TEXT else None
    if isinstance(value, int | Decimal):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, datetime):
        type_, text = "TIMESTAMP_NTZ(6)", value.isoformat(" ", "microseconds")
        if value.tzinfo:
            type_, text = zoned, value.astimezone(UTC).isoformat(" ", "microseconds")
        return f"CAST('{text}' AS {type_})"
    return f"CAST('{value.isoformat()}' AS DATE)" if isinstance(value, date) else None
