"""Checks before any data moves: whether a table, its configuration and its strategy fit together.

The checks use values only; :mod:`aurora_sync.source` has read the catalogue.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase

from aurora_sync.config.globs import literal
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.names import NameStyle, fold, written
from aurora_sync.model.relation import Index, SourceTable
from aurora_sync.source.long_values import may_be_long
from aurora_sync.strategies import strategy_of
from aurora_sync.strategies.base import Strategy
from aurora_sync.warehouse.ddl import ADDED_TYPES
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.types import ALIASES, NAMES, has_nearest, may_misfit, type_key

_MEND = "exclude one of them with columns.exclude, or rename it in a view and sync the view"


def problems(config: TableConfig, table: SourceTable | None, strategy: Strategy) -> list[str]:
    """Return every problem that prevents syncing the table: what was found, what is needed, what to do instead.

    Empty when there is none. ``table`` is None when there is no such relation.
    """
    if table is None:
        return [
            "found no such table, view or foreign table that this role may see; check table_name and schema, "
            "upper and lower case included, and GRANT USAGE ON SCHEMA"
        ]
    if table.undecodable:
        return [table.undecodable]
    return [
        *_access(table),
        *_unknown_columns(config, table),
        *_left_out(config, table),
        *_key(config, table),
        *_collisions(selected_columns(config, table), config.names),
        *_policies(config, table),
        *strategy.problems(config, table),
    ]


def problems_of_case(columns: Iterable[Column], dialect: Dialect) -> list[str]:
    """Return the problems of synced columns that differ only by case, in a warehouse that ignores it."""
    if dialect.case_sensitive:
        return []
    alike = defaultdict(list)
    for column in columns:
        alike[fold(column.name)].append(column.name)
    return [
        f"the columns {' and '.join(names)} differ only by case, which the warehouse ignores; {_MEND}"
        for names in alike.values()
        if len(names) > 1
    ]


def selected_columns(config: TableConfig, table: SourceTable) -> tuple[Column, ...]:
    """Return the columns that are synced, in the order of the table, each with its policy."""
    include, exclude = config.columns.include or ["*"], config.columns.exclude
    key = merge_key(config, table)
    return tuple(
        dataclasses.replace(column, policy=_policy(config, column, key))
        for column in sorted(table.columns, key=lambda column: column.attnum)
        if _any_matches(include, column.name) and not _any_matches(exclude, column.name)
    )


def merge_key(config: TableConfig, table: SourceTable) -> tuple[str, ...]:
    """Return the columns of the merge key, which match a source row to a target row; empty when rows are matched by
    content.

    They are those of ``primary_key``, or else the table's primary key if it can serve as a merge key.
    """
    if config.primary_key:
        return tuple(config.primary_key)
    if table.inherits or any(_faults(index, table) for index in table.indexes if index.primary):
        return ()
    return table.primary_key


def possible_key(table: SourceTable) -> tuple[str, ...]:
    """Return the columns of an index that can serve as merge key, the primary key first; empty when there is none."""
    found = (index for index in table.indexes if index.unique and not _faults(index, table))
    first = None if table.inherits else next(found, None)
    return first.columns if first else ()


def _policy(config: TableConfig, column: Column, key: tuple[str, ...]) -> str:
    if column.name in key and (column.is_array or column.base_type == "jsonb"):
        return "text"  # target rows are found by the text of their key
    by_type = {ALIASES.get(name, name): policy for name, policy in config.types.items()}
    return config.column_types.get(column.name) or by_type.get(type_key(column), "exact")


def _policies(config: TableConfig, table: SourceTable) -> Iterable[str]:
    for name in config.types:
        if name not in ALIASES and name not in NAMES:
            near = difflib.get_close_matches(name, [*NAMES, *ALIASES], n=1)
            yield (
                f"types: {name} is not a type that can have a policy; "
                + (f"did you mean {near[0]}?" if near else "set the policy of the column under column_types")
            )
    key = merge_key(config, table)
    for column in selected_columns(config, table):
        named = "column_types" if column.name in config.column_types else "types"
        if column.policy in ("null", "clamp") and column.name in key and (may_misfit(column) or may_be_long(column)):
            yield (
                f"{named}: {column.name} belongs to the merge key, so rows with a changed key could be confused with "
                "other rows; expected exact, fail or text"
            )
        elif column.policy == "clamp" and not has_nearest(column):
            yield (
                f"{named}: clamp of {column.name}: type {column.type_name} has no nearest value; expected exact, "
                "fail, null or text"
            )


def _any_matches(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _access(table: SourceTable) -> Iterable[str]:
    if table.row_security:
        yield (
            "row-level security applies to this role, so it would see only some of the rows and the others would "
            "count as deleted; connect as a role with BYPASSRLS or as the table's owner"
        )
    # xmin, which is read with every row, and LOCK TABLE need SELECT on the table; grants on columns are not enough.
    if not (table.select_on_table if table.kind in "rpv" else table.readable):
        yield (
            "this role may not SELECT from it; expected SELECT on the whole table, not on single columns; GRANT SELECT "
            "ON it, and GRANT USAGE ON SCHEMA"
        )
    for name in table.unpopulated:
        it = "it" if table.kind == "m" else f"it reads {name}, which"
        yield f"{it} was never filled (WITH NO DATA), and cannot be read; run REFRESH MATERIALIZED VIEW {name}"


def _unknown_columns(config: TableConfig, table: SourceTable) -> Iterable[str]:
    names = [column.name for column in table.columns]
    chosen = {"columns.include": config.columns.include or [], "columns.exclude": config.columns.exclude}
    wanted: dict[str, Iterable[str]] = {
        "watermark_cols" if config.watermark_cols else "watermark_col": config.watermark_columns,
        "primary_key": config.primary_key or (),
        "cluster_by": config.cluster_by or (),
        "column_types": config.column_types,
        # A glob may match nothing: an entry for many tables may exclude columns that only some of them have.
        **{key: [name for pattern in patterns if (name := literal(pattern))] for key, patterns in chosen.items()},
    }
    for key, columns in wanted.items():
        for name in columns:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                found = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
                yield f"{key}: the table has no column {name}; {found}"


def _left_out(config: TableConfig, table: SourceTable) -> Iterable[str]:
    selected = {column.name for column in selected_columns(config, table)}
    if not selected:
        yield "columns: include and exclude leave no column to sync; change them so that at least one column remains"
        return
    needed = {
        "merge key": merge_key(config, table),
        "watermark": config.watermark_columns,
        "columns of cluster_by": config.cluster_by or (),
    }
    for role, names in needed.items():
        for name in names:
            if table.column(name) and name not in selected:
                yield f"columns: {name} is excluded, but belongs to the {role}; include it"


_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def _key(config: TableConfig, table: SourceTable) -> Iterable[str]:
    key, strategy = merge_key(config, table), strategy_of(config)
    if table.inherits:
        if key or not strategy.reads_whole:
            yield (
                "it has children by INHERITS, and its keys do not cover their rows; use watermark_type: full_snapshot "
                "without primary_key, or sync the children in place of this table"
            )
    elif key and config.append_only:
        yield (
            f"append_only: the table has a merge key ({', '.join(key)}), so updates are found as well; remove "
            "append_only"
        )
    elif not key:
        if not strategy.reads_whole and not config.append_only:
            primary = next((index for index in table.indexes if index.primary), None)
            why = f"its primary key is not usable: {_faults(primary, table)[0]}" if primary else "it has no primary key"
            if table.kind not in "rp":
                why = f"{_KINDS.get(table.kind, 'it')} has no primary key"
            appended = ", or xmin with append_only: true if rows are only inserted" if table.is_heap else ""
            yield (
                f"found no merge key, {why}; watermark_type {strategy.name} needs one: {_offer(table)}, "
                f"or use full_snapshot{appended}"
            )
    elif table.kind in "rp" and all(table.column(name) for name in key):
        backing = [index for index in table.indexes if index.unique and set(index.columns) == set(key)]
        named = f"primary_key {', '.join(key)}"
        if not backing:
            yield f"{named}: found no unique index on exactly these columns, so they may repeat; {_offer(table)}"
        elif all(_faults(index, table) for index in backing):
            yield f"{named}: not usable as merge key: {', '.join(_faults(backing[0], table))}; {_offer(table)}"


def _faults(index: Index, table: SourceTable) -> list[str]:
    """Return why the columns of a unique index do not identify each row at every moment; empty when they do."""
    nullable = [c.name for c in table.columns if c.name in index.columns and not c.not_null]
    found = {
        "its index covers an expression": "" in index.columns,
        "its index is partial": index.partial,
        "its index is invalid (REINDEX it)": not index.valid,
        "its constraint is deferrable (make it NOT DEFERRABLE)": not index.immediate,
        f"{', '.join(nullable)} may be NULL (SET NOT NULL)": bool(nullable),
    }
    return [fault for fault, holds in found.items() if holds]


def _offer(table: SourceTable) -> str:
    if columns := possible_key(table):
        return f"primary_key: [{', '.join(columns)}] is possible"
    if table.kind not in "rp":
        return "set primary_key to columns that are unique and never NULL"
    return "it needs a unique index that is neither partial nor deferrable, on columns that are NOT NULL"


def _collisions(columns: Iterable[Column], style: NameStyle) -> Iterable[str]:
    taken: dict[str, str] = {}
    for column in columns:
        name = written(column.name, style)
        added = fold(name) in ADDED_TYPES  # also in another case: the columns of a target are found whatever their case
        other = "a column that aurora_sync adds" if added else taken.get(name)
        if other:
            yield f"column {column.name} would be {name} in the target, the name of {other}; {_MEND}"
        taken.setdefault(name, f"column {column.name}")
