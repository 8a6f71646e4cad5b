"""Conversion of a column of the target to another type, where ALTER cannot do it. The table is never replaced, so its
policies, streams, grants, clustering and comments stay.

====  ============================================================================================================
step  statement
====  ============================================================================================================
1     ADD COLUMN new
2     UPDATE new = converted(column): most of the work
3     RENAME COLUMN column TO former
4     DESCRIBE: ``former`` must have the type that was converted from
5     in one transaction: UPDATE the fence without a change; UPDATE new = converted(former) where they differ
6     SET NOT NULL and COMMENT, as the column had them
7     RENAME COLUMN new TO column
8     DROP COLUMN former
====  ============================================================================================================

**No row of another run is lost.** A run writes values of the column only in a transaction that first locks the fence.
A statement that names the column either begins before step 3, or fails until step 7, because no column has this name.
If it began before, its transaction locked the fence before step 5, which waits until that transaction ends, and then
converts the rows that it committed. Statements that do not name the column leave NULL in both columns of new rows, and
NULL converts to NULL. So ``new`` equals the converted ``former`` from step 5 until step 7. A run that was prepared
with the old type and writes after step 7 records the old type in the sync log, and the next run reads the whole table.

**A run may be killed between any two statements.** Before step 7 the original values are in ``column`` or in
``former``, and no run can write to ``former``: :func:`settled` renames it back and drops ``new``. After step 7
``column`` is complete, and :func:`settled` drops ``former``. Each run calls it before it does anything else with the
target. A state that was read in between says that the column is gone, which leads to a full read.

**Two runs may convert the same column, or one may settle what the other is doing.** The names contain the load id, so
neither run renames or drops a column of a later conversion. A RENAME succeeds for one of them; the other one fails, or
finds another type in step 4, and raises RivalRunError. Step 7 fails when the column was renamed back.
"""

# ruff: noqa: S608 - every name went through identifier()

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aurora_sync.errors import RivalRunError, WarehouseError
from aurora_sync.warehouse import ddl, sync_log, targets
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.ddl import Layout, TableName, TargetColumn, identifier
from aurora_sync.warehouse.types import printed

_NEW, _FORMER = "_CONVERTED", "_FORMER"
# With a load id, so that a column of the source such as _former_2023_total is not taken for one of ours.
_OURS = re.compile(f"({_NEW}|{_FORMER})_[0-9a-z]{{10,}}_(.+)", re.DOTALL)


@dataclass(frozen=True)
class Conversion:
    """The conversion of one column from the type ``was`` to the type of its rule."""

    layout: Layout
    column: TargetColumn
    was: str
    load_id: str

    @property
    def new(self) -> str:
        return f"{_NEW}_{self.load_id}_{self.column.name}"

    @property
    def former(self) -> str:
        return f"{_FORMER}_{self.load_id}_{self.column.name}"

    def fill(self, source: str) -> str:
        """Return the statement that sets ``new`` to the converted value of ``source`` in the rows where it differs."""
        text, rule = printed(self.was, identifier(source), self.column.source), self.column.rule
        value = f"CAST({text if rule.is_text else rule.cast.format(f'({text})')} AS {rule.target})"
        new = identifier(self.new)
        return f"UPDATE {self.layout.target.sql} SET {new} = {value} WHERE {new} IS DISTINCT FROM {value}"


def convert(session: Session, conversion: Conversion) -> None:
    """Convert the column. Raises RivalRunError when another run changed the columns meanwhile, and WarehouseError when
    the values do not convert; the column then has its former type again."""
    target, name = conversion.layout.target, conversion.column.name
    reported = ddl.described(session, target).get(name, ReportedColumn(conversion.was))
    session.query(ddl.add(target, conversion.new, conversion.column.rule.target))
    holds_values = name
    if reported.in_key:
        targets.drop_key(session, target)
    try:
        session.modify(conversion.fill(name))
        session.query(rename(target, name, conversion.former))
        holds_values = conversion.former
        _assert_type(session, conversion)
        with session.transaction():
            session.modify(sync_log.hold_fence(conversion.layout.staging.schema, target))
            session.modify(conversion.fill(conversion.former))
        _restore_properties(session, conversion, reported)
        session.query(rename(target, conversion.new, name))
    except WarehouseError as error:
        raise _undone(session, conversion, holds_values, error) from error
    _drop_former(session, target, conversion.former)


def settled(session: Session, target: TableName, found: Mapping[str, ReportedColumn]) -> dict[str, ReportedColumn]:
    """Undo or complete the conversions that other runs began and did not end. ``found`` are the columns of the target;
    returns them as they are afterwards."""
    columns = dict(found)
    # Added columns come last, so the column of the newest conversion is the first in this order.
    ours = [(match[1], match[2], name) for name in reversed(list(found)) if (match := _OURS.fullmatch(name))]
    for kind, column, name in ours:
        if kind == _FORMER and column not in columns:
            try:
                session.query(rename(target, name, column))
            except WarehouseError as error:
                raise _overtaken(target, column, error) from error
            columns = {column if each == name else each: type_ for each, type_ in columns.items()}
    for kind, _, name in ours:
        if name in columns:
            (_drop_former if kind == _FORMER else _drop)(session, target, name)
            del columns[name]
    return columns


def rename(table: TableName, old: str, new: str) -> str:
    return f"ALTER TABLE {table.sql} RENAME COLUMN {identifier(old)} TO {identifier(new)}"


def drop_column(table: TableName, name: str) -> str:
    return f"ALTER TABLE {table.sql} DROP COLUMN IF EXISTS {identifier(name)}"


def _assert_type(session: Session, conversion: Conversion) -> None:
    """Check that the column that was just renamed has the type that the values were converted from."""
    now = ddl.existing_columns(session, conversion.layout.target).get(conversion.former)
    if now != conversion.was:
        cause = WarehouseError(f"it was {conversion.was}, and now it is {now}")
        raise _overtaken(conversion.layout.target, conversion.column.name, cause)


def _restore_properties(session: Session, conversion: Conversion, reported: ReportedColumn) -> None:
    target = conversion.layout.target
    if not reported.nullable:
        session.query(f"ALTER TABLE {target.sql} ALTER COLUMN {identifier(conversion.new)} SET NOT NULL")
    if reported.comment:
        session.query(ddl.comment_on_column(target, conversion.new, reported.comment))


def _undone(session: Session, conversion: Conversion, holds_values: str, error: WarehouseError) -> WarehouseError:
    """Undo a conversion that failed, and return the error to raise: RivalRunError if another run caused it."""
    target = conversion.layout.target
    try:
        found = ddl.described(session, target)
        settled(session, target, found)
    except WarehouseError as unsettled:
        error.add_note(f"the next run completes or undoes the conversion: {unsettled}")
        return error
    if error.kind.retry or {conversion.new, holds_values} <= found.keys():
        return error
    return _overtaken(target, conversion.column.name, error)


def _overtaken(target: TableName, column: str, error: WarehouseError) -> RivalRunError:
    return RivalRunError(
        f"column {column} of {target} was changed while its type was being changed: {error.what}",
        where=str(target),
        hint="another run changed it; nothing is lost: run again",
    )


def _drop(session: Session, target: TableName, name: str) -> None:
    session.query(drop_column(target, name))


def _drop_former(session: Session, target: TableName, name: str) -> None:
    """Drop a column whose values are in another one now."""
    try:
        _drop(session, target, name)
    except WarehouseError as error:
        if error.kind.retry:
            raise
        raise WarehouseError(
            f"column {name} of {target}, whose values were converted into another column, cannot be dropped:"
            f" {error.what}",
            where=str(target),
            hint=f"remove what depends on it, such as a clustering key; then run `{drop_column(target, name)}`",
        ) from error
