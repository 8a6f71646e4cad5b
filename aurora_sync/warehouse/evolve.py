"""The target's columns, made to hold what an increment has staged: added, widened, converted.

All of it before the transaction of the merge, because in Snowflake DDL commits; each statement leaves a target that
holds the same values as before it, so that a run that ends in between has lost nothing and the next goes on from there.
A column gets another type by one CREATE OR REPLACE ... AS SELECT: what a rival commits meanwhile is not in it, which
apply.py finds by the run sequences of the rows (docs/decisions/0007).
"""

# ruff: noqa: S608 - every name went through identifier()

from __future__ import annotations

import re

from aurora_sync.errors import TargetChangedError, WarehouseError
from aurora_sync.increment import Action, Disposition, Finding, Manifest
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import ADDED_TYPES, RUN_SEQ, Layout, TargetColumn, identifier
from aurora_sync.warehouse.types import printed

_NUMBER = re.compile(r"NUMBER\((\d+),(\d+)\)")
_JSON = ("VARIANT", "ARRAY")  # DuckDB has one type for both


def adapt_target(
    session: Session, layout: Layout, existing: dict[str, str], manifest: Manifest
) -> tuple[Layout, tuple[Finding, ...]]:
    """Make the columns of the target that is there, which are ``existing``, those of the layout. Idempotent. Returns
    the layout, in which a column is text whose present values do not convert to another type, and what was changed.

    Raises WarehouseError when the table was not made by this project, or a column cannot become what it must be.
    """
    if RUN_SEQ not in existing:
        raise WarehouseError(
            f"{layout.target} exists and was not made by aurora_sync: it has no column {RUN_SEQ}",
            where=manifest.table,
            hint="rename or drop that table, or choose another target_schema or target_table",
        )
    for name in layout.types:
        if name not in existing:
            session.query(ddl.add_column(layout, name))
            existing[name] = _as_reported(layout.types[name])
        elif name in ADDED_TYPES and not _holds(existing[name], ADDED_TYPES[name]):
            raise WarehouseError(
                f"column {name} of {layout.target} is {existing[name]}, and must be {ADDED_TYPES[name]}",
                where=manifest.table,
                hint="drop or rename the target and sync again to load it in full",
            )
    changes = []
    for column in layout.columns:
        if column.name in existing and not _holds(existing[column.name], column.rule.target):
            layout, change = _convert(session, layout, column, existing, manifest)
            changes += change
    return layout, tuple(changes)


def _holds(existing: str, wanted: str) -> bool:
    """Whether the type of a column of the target, in the words of existing_columns(), holds what ``wanted`` does."""
    has, needs = _NUMBER.fullmatch(existing), _NUMBER.fullmatch(wanted)
    if has and needs:
        return int(has[1]) >= int(needs[1]) and has[2] == needs[2]
    return existing == _as_reported(wanted) or (existing in _JSON and wanted in _JSON)


def _convert(
    session: Session, layout: Layout, column: TargetColumn, existing: dict[str, str], manifest: Manifest
) -> tuple[Layout, list[Finding]]:
    """Give one column the type of its rule; or text, where its present values do not convert."""
    was, wanted = existing[column.name], column.rule.target
    if was in _JSON and column.rule.is_text and manifest.disposition is not Disposition.REPLACE:
        raise TargetChangedError(
            f"column {column.source.name} holds a value that {was} cannot, and becomes text: the text of the older"
            " values is read again",
            where=manifest.table,
        )
    try:
        if not _fits(session, layout, column, was):
            raise WarehouseError(f"values of {column.name} do not fit {wanted}", where=manifest.table)
        session.query(retype(layout, column, existing))
    except WarehouseError as error:
        if error.kind.retry:
            raise
        if column.rule.policy != "exact" or column.rule.is_text:
            raise WarehouseError(
                f"column {column.name} of {layout.target} is {was}, and its values do not all convert to {wanted}:"
                f" {error.what}",
                where=manifest.table,
                hint="drop or rename the target and sync again to load it in full",
            ) from error
        layout = layout.widened([column.name])
        wide = next(c for c in layout.columns if c.name == column.name)
        if _holds(was, wide.rule.target):
            return layout, []
        session.query(retype(layout, wide, existing))
        wanted = wide.rule.target
    existing[column.name] = _as_reported(wanted)
    text = f"column {column.source.name} of the target became {_as_reported(wanted)}; it was {was}"
    return layout, [Finding("target type", Action.ADAPT, text, was, _as_reported(wanted))]


def _fits(session: Session, layout: Layout, column: TargetColumn, was: str) -> bool:
    """False when a misfit is among the values that are there: an engine may round what it cannot hold."""
    if not column.rule.misfit:
        return True
    misfit = column.rule.misfit.format(printed(was, column.sql))
    return not session.query(f"SELECT 1 FROM {layout.target.sql} WHERE {misfit} LIMIT 1")


def retype(layout: Layout, column: TargetColumn, existing: dict[str, str]) -> str:
    """Convert one column of the target as it is; the others, those that we know nothing of too, stay."""
    was, wanted = existing[column.name], column.rule.target
    has, needs = _NUMBER.fullmatch(was), _NUMBER.fullmatch(wanted)
    if has and needs and has[2] == needs[2]:
        return f"ALTER TABLE {layout.target.sql} ALTER COLUMN {column.sql} SET DATA TYPE {wanted}"
    text = printed(was, column.sql)
    value = text if column.rule.is_text else column.rule.cast.format(f"({text})")
    columns = ", ".join(
        f"CAST({value} AS {wanted}) AS {column.sql}" if name == column.name else identifier(name) for name in existing
    )
    return f"CREATE OR REPLACE TABLE {layout.target.sql} COPY GRANTS AS SELECT {columns} FROM {layout.target.sql}"


def _as_reported(type_: str) -> str:
    """
    >>> _as_reported("VARCHAR(134217728)"), _as_reported("NUMBER(10,2)")
    ('VARCHAR', 'NUMBER(10,2)')
    """
    return type_ if type_.startswith("NUMBER") else type_.split("(")[0]
