"""Evolution of the target's columns, so that they can hold the staged rows: added, renamed, widened, converted.

All of it runs before the transaction of the merge, because in Snowflake DDL commits. Each statement leaves the target
with the same values as before. A run that ends in between has therefore lost nothing, and the next run continues from
there. Where ALTER cannot change a type, convert.py does it through an added column.
"""

# ruff: noqa: S608 - every name went through identifier()

from __future__ import annotations

import re
from collections.abc import Collection

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import TargetChangedError, WarehouseError
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.names import NameStyle, TargetNames, differing_by_case, fold
from aurora_sync.model.watermark import Left
from aurora_sync.warehouse import convert, ddl, policies, targets
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import ADDED_TYPES, JSON_TYPES, RUN_SEQ, Layout, TableName, TargetColumn, identifier
from aurora_sync.warehouse.types import printed

_NUMBER = re.compile(r"NUMBER\((\d+),(\d+)\)")
# The comment on a target column that the source no longer has.
DROPPED = "Dropped at the source, or no longer synced: rows inserted since have NULL here"


def adapt_target(
    session: Session, config: TableConfig, layout: Layout, existing: dict[str, str], manifest: Manifest
) -> tuple[Layout, tuple[Finding, ...]]:
    """Adapt the columns of the target, ``existing``, to the layout. Idempotent. Returns the layout and the changes
    made. In the layout, a column is text when its present values do not convert to the new type.

    Raises WarehouseError when the table was not created by aurora_sync, or a column cannot be converted.
    """
    refuse_foreign(layout.target, existing, manifest.table)
    to_rename = renames(existing, manifest, config.names)
    _refuse_lost_text(layout, existing, manifest)
    for old, new in to_rename.items():
        session.query(convert.rename(layout.target, old, new))
        existing[new] = existing.pop(old)
    _add_columns(session, layout, existing, manifest)
    _release_columns(session, layout, existing, manifest)
    layout, longer = targets.lengthen(session, layout)
    layout, converted = _convert_columns(session, config, layout, existing, manifest)
    return layout, longer + converted


def refuse_foreign(target: TableName, existing: Collection[str], where: str) -> None:
    """Raise WarehouseError if the table, whose columns are ``existing``, was not created by aurora_sync."""
    if RUN_SEQ not in existing:
        raise WarehouseError(
            f"{target} exists, but was not created by aurora_sync: it has no column {RUN_SEQ}",
            where=where,
            hint="rename or drop that table, or choose another target_schema or target_table",
        )


def _add_columns(session: Session, layout: Layout, existing: dict[str, str], manifest: Manifest) -> None:
    """Add the columns that the target lacks. Raises WarehouseError when one of the added columns of aurora_sync has
    another type."""
    for name in layout.types:
        if name not in existing:
            session.query(ddl.add_column(layout, name))
            existing[name] = as_reported(layout.types[name])
        elif name in ADDED_TYPES and not _holds(existing[name], ADDED_TYPES[name]):
            raise WarehouseError(
                f"column {name} of {layout.target} has the type {existing[name]}; expected {ADDED_TYPES[name]}",
                where=manifest.table,
                hint="drop or rename the target and sync again to load it in full",
            )


def _release_columns(session: Session, layout: Layout, existing: dict[str, str], manifest: Manifest) -> None:
    """Allow NULL in columns that are no longer synced, and comment these columns."""
    evolution, former = manifest.evolution, _former_names(existing, manifest, layout.names.style)
    keys = TargetNames(layout.names.style, tuple(existing))  # a key column may have got a name of another case
    for name in (*map(keys.present, evolution.former_key), *map(former.present, evolution.renamed)):
        if name is not None and name not in layout.match:
            session.query(f"ALTER TABLE {layout.target.sql} ALTER COLUMN {identifier(name)} DROP NOT NULL")
    for name in map(former.present, (*evolution.dropped, *evolution.renamed)):
        if name is not None:
            session.query(ddl.comment_on_column(layout.target, name, DROPPED))


def _convert_columns(
    session: Session, config: TableConfig, layout: Layout, existing: dict[str, str], manifest: Manifest
) -> tuple[Layout, tuple[Finding, ...]]:
    """Give each column the type of its rule. Raises one error for all columns that cannot be converted."""
    changes: list[Finding] = []
    refused: list[WarehouseError] = []
    as_json: list[Column] = []
    for column in layout.columns:
        if column.name not in existing or _holds(existing[column.name], column.rule.target):
            continue
        try:
            layout, change = _convert(session, config, layout, column, existing, manifest)
            changes += change
        except WarehouseError as error:
            if isinstance(error, TargetChangedError):
                as_json.append(column.source)
            elif error.kind.retry:
                raise
            else:
                refused.append(error)
    if refused:
        what = "; ".join(error.what for error in refused)
        raise WarehouseError(what, where=manifest.table, hint=refused[0].hint) from refused[0]
    ddl.refuse_json(as_json, manifest.table)
    return layout, tuple(changes)


def _refuse_lost_text(layout: Layout, existing: dict[str, str], manifest: Manifest) -> None:
    """Raise TargetChangedError when a jsonb or array column becomes text, since the warehouse has its values but not
    their text."""
    lost = [c for c in layout.columns if c.rule.is_text and existing.get(c.name) in JSON_TYPES]
    if lost and manifest.disposition is not Disposition.REPLACE:
        named = ", ".join(f"{c.source.name} ({existing[c.name]})" for c in lost)
        raise TargetChangedError(
            f"these columns become text, because their types cannot hold some values: {named}; only the source has the"
            " text of the older values",
            where=manifest.table,
        )


def renames(existing: dict[str, str], manifest: Manifest, style: NameStyle) -> dict[str, str]:
    """Return the columns of the target that must be renamed: new name by old name, as the target spells them.

    Raises TargetChangedError when the new name belongs to a column that the source dropped earlier: only a full read
    can then fill that column.
    """
    found = _renamed(existing, manifest, style)
    if taken := [new for new in found.values() if new in existing]:
        if manifest.disposition is not Disposition.REPLACE:
            raise TargetChangedError(
                f"a column was renamed to {taken[0]}, but the target already has a column of this name",
                where=manifest.table,
            )
        found = {old: new for old, new in found.items() if new not in taken}
    return found


def left_behind(existing: dict[str, str], manifest: Manifest, style: NameStyle) -> bool:
    """Return whether a column could not be renamed; the target's column of the merge key may then be another one."""
    return bool(_renamed(existing, manifest, style))


def _renamed(existing: dict[str, str], manifest: Manifest, style: NameStyle) -> dict[str, str]:
    names = _former_names(existing, manifest, style)
    found = {names.present(old): names.of(new) for old, new in manifest.evolution.renamed.items()}
    return {old: new for old, new in found.items() if old is not None and old != new}


def _former_names(existing: dict[str, str], manifest: Manifest, style: NameStyle) -> TargetNames:
    """Return the names of columns that the source no longer has. A former name that differs from a present one only by
    case is found by its exact name."""
    evolution, columns = manifest.evolution, [column.name for column in manifest.columns]
    return TargetNames(style, tuple(existing), differing_by_case({*evolution.renamed, *evolution.dropped, *columns}))


def refuse_moved(layout: Layout, existing: dict[str, str], last: Left | None) -> None:
    """Raise WarehouseError when a column would be written under another name than by the last run, although the target
    still has that one: both differ only by case."""
    if last is None or not (alike := differing_by_case(existing)):
        return
    written = {column.name for column in layout.columns}
    for name in written - last.columns.keys():
        former = [
            each for each in last.columns if fold(each) == fold(name) and each in existing and each not in written
        ]
        if fold(name) in alike and former:
            raise WarehouseError(
                f"{layout.target} has the columns {former[0]} and {name}, which differ only by case; the last run wrote"
                f" {former[0]}, and this one would write {name}",
                where=layout.target.sql,
                hint=f"drop or rename the column {name} of the target, and run again",
            )


def _holds(existing: str, wanted: str) -> bool:
    """Return whether a target column of type ``existing``, as existing_columns() spells it, holds every value of type
    ``wanted``."""
    has, needs = _NUMBER.fullmatch(existing), _NUMBER.fullmatch(wanted)
    if has and needs:
        return int(has[1]) >= int(needs[1]) and has[2] == needs[2]
    return ddl.alike(existing, as_reported(wanted))


def _convert(
    session: Session,
    config: TableConfig,
    layout: Layout,
    column: TargetColumn,
    existing: dict[str, str],
    manifest: Manifest,
) -> tuple[Layout, list[Finding]]:
    """Give one column the type of its rule, or text when its present values do not convert."""
    was, wanted = existing[column.name], column.rule.target
    if not _is_longer_number(was, wanted):
        policies.refuse_conversion(session, config, layout, column)
    try:
        if not _fits(session, layout, column, was):
            raise WarehouseError(f"values of {column.name} do not fit {wanted}", where=manifest.table)
        _retype(session, layout, column, was, manifest.load_id)
    except WarehouseError as error:
        if error.kind.retry:
            raise
        if column.rule.policy != "exact" or column.rule.is_text:
            raise WarehouseError(
                f"column {column.name} of {layout.target} is {was}, and some of its values cannot be converted to"
                f" {wanted}: {error.what}",
                where=manifest.table,
                hint="drop or rename the target and sync again to load it in full",
            ) from error
        ddl.refuse_json([column.source], manifest.table)
        layout = layout.widened([column.name])
        wide = next(c for c in layout.columns if c.name == column.name)
        if _holds(was, wide.rule.target):
            return layout, []
        _retype(session, layout, wide, was, manifest.load_id)
        wanted = wide.rule.target
    existing[column.name] = as_reported(wanted)
    text = f"column {column.source.name} of the target became {as_reported(wanted)}; it was {was}"
    return layout, [Finding("target type", Action.ADAPT, text, was, as_reported(wanted))]


def _fits(session: Session, layout: Layout, column: TargetColumn, was: str) -> bool:
    """Return whether all present values fit the new type. This is checked first, because an engine may round a value
    that it cannot hold."""
    if not column.rule.misfit:
        return True
    misfit = column.rule.misfit.format(printed(was, column.sql, column.source))
    return not session.query(f"SELECT 1 FROM {layout.target.sql} WHERE {misfit} LIMIT 1")


def _retype(session: Session, layout: Layout, column: TargetColumn, was: str, load_id: str) -> None:
    """Convert one column of the target to the type of its rule."""
    if _is_longer_number(was, column.rule.target):
        session.query(ddl.set_type(layout.target, column.name, column.rule.target))
    else:
        convert.convert(session, convert.Conversion(layout, column, was, load_id))


def _is_longer_number(was: str, wanted: str) -> bool:
    """Return whether ALTER can change the type: both are numbers with the same digits after the point."""
    has, needs = _NUMBER.fullmatch(was), _NUMBER.fullmatch(wanted)
    return bool(has and needs and has[2] == needs[2])


def as_reported(type_: str) -> str:
    """Return a type as existing_columns() reports it.

    >>> as_reported("VARCHAR(134217728)"), as_reported("NUMBER(10,2)")
    ('VARCHAR', 'NUMBER(10,2)')
    """
    return type_ if type_.startswith("NUMBER") else type_.split("(")[0]
